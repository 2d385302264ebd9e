// Runs every path of normalize.cu, as a program of its own for the sanitizers.
#include "normalize_host.cpp"

int main() {
  constexpr int kImages = 2, kPixels = 128 * 128;
  std::vector<float> images(kImages * kPixels), out(kImages * kPixels);
  for (size_t i = 0; i < images.size(); ++i) images[i] = (float)(i * 2654435761u >> 24);
  std::vector<float> pack(images.begin(), images.begin() + 8000), any(images.begin(), images.begin() + 1111);
  int failed = 0;
  for (unsigned order : {0u, 1u, 7u}) {
    failed |= shim::Host<&normalize_f32_f32_tile>::run(kImages, NT, 128, order, images.data(), out.data(), kPixels, 2, 1e-6f);
    failed |= shim::Host<&normalize_f32_f32_pack>::run(1, NT, 128, order, pack.data(), out.data(), 8000, 2, 1e-6f);
    failed |= shim::Host<&normalize_f32_f32_any>::run(1, NT, 128, order, any.data(), out.data(), 1111, 2, 1e-6f);
    failed |= shim::Host<&normalize_f32_f32_tile>::run(1, NT, 128, order, out.data(), out.data(), kPixels, 2, 1e-6f);
  }
  return failed;
}
