// Runs every path of transform.cu, as a program of its own for the sanitizers.
#define FEW_ENTRIES
#include "transform_host.cpp"

// Cells that fill the pool to its ends, so that one step outside is a step out of the allocation.
struct Cells {
  std::vector<i64> offset, index, position, clock = {-12345, 77};
  std::vector<int> height, width;
  std::vector<float> border, um_per_px;
  std::vector<u8> pixels;

  Cells(std::vector<std::pair<int, int>> shapes, std::vector<std::pair<int, int>> broken) {
    for (auto [h, w] : shapes) {
      add((i64)pixels.size(), h, w);
      for (int i = 0; i < h * w; ++i) pixels.push_back((u8)(pixels.size() * 2654435761u >> 24));
    }
    pixels.shrink_to_fit();
    for (auto [h, w] : broken) add((i64)pixels.size() - 1, h, w);
    index.push_back(-1);
    index.push_back((i64)height.size());
    for (size_t i = 0; i < index.size(); ++i) position.push_back((i64)i << 31);
  }
  void add(i64 begin, int h, int w) {
    index.push_back((i64)height.size());
    offset.push_back(begin), height.push_back(h), width.push_back(w);
    border.push_back(height.size() % 2 ? 100.0f : NAN), um_per_px.push_back(height.size() % 3 ? 0.3f : NAN);
  }
  template <auto Kernel> int run(int size, int shared_bytes, unsigned order, int fit, int mode, Augmentation a) {
    const int count = (int)index.size();
    std::vector<float> out((size_t)count * size * size);
    return shim::Host<Kernel>::run(
        count, 4 * size, shared_bytes, order, pixels.data(), (i64)pixels.size(), offset.data(), height.data(),
        width.data(), border.data(), um_per_px.data(), (i64)height.size(), index.data(), position.data(), clock.data(),
        out.data(), fit, 0.5, a.flip_horizontal, a.flip_vertical, a.rotation_rad, a.translation, a.scale, a.blur_sigma,
        a.blur_probability, a.noise_std, a.noise_probability, mode, 1e-6f);
  }
};

int main() {
  Cells many({{1, 1}, {1, 9}, {13, 1}, {2, 2}, {21, 33}, {60, 45}}, {{1, 2}, {2, 1}, {0, 1}, {-1, -1}});
  Cells few({{9, 14}}, {});
  const Augmentation off = {}, strong = {1, 1, 3.1, 0.5, 1.0, 16.0, 0.5, 200.0, 0.7};
  const Augmentation blurred = {1, 0, 0.2, 0, 0, 1, 1, 5, 1};
  int failed = 0;
  for (unsigned order : {0u, 1u, 7u})
    for (int fit = 0; fit < 3; ++fit) {
      failed |= many.run<&transform_32_u8_f32_plain>(32, 112 + 32, order, fit, 2, off);
      failed |= many.run<&transform_32_u8_f32_blur>(32, 4 * 32 * 32, order, fit, 2, off);
      failed |= many.run<&transform_32_u8_f32_plain>(32, 112 + 32, order, fit, 2, strong);
      failed |= many.run<&transform_32_u8_f32_blur>(32, 4 * 32 * 32, order, fit, fit, strong);
    }
  for (int fit = 0; fit < 3; ++fit) {  // rows beyond the image, and the filter
    failed |= many.run<&transform_24_u8_f32_plain>(24, 112 + 24, 7, fit, 2, off);
    failed |= many.run<&transform_24_u8_f32_blur>(24, 4 * 24 * 24, 7, fit, fit, strong);
    failed |= many.run<&transform_24_u8_f32_filter>(24, 4 * 24 * 24, 7, fit, 2, off);
    failed |= many.run<&transform_24_u8_f32_filter>(24, 4 * 24 * 24, 7, fit, fit, strong);
  }
  failed |= few.run<&transform_96_u8_f32_blur>(96, 4 * 96 * 96, 7, 1, 2, blurred);
  failed |= few.run<&transform_128_u8_f32_plain>(128, 112 + 128, 0, 0, 2, strong);
  failed |= few.run<&transform_128_u8_f32_blur>(128, 4 * 128 * 128, 0, 0, 2, blurred);
  return failed;
}
