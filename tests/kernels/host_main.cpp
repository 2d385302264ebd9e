// Runs one entry of every path once, as a program of its own: ThreadSanitizer ends it with code 66 at a data race.
#include "host_tu.cpp"

int main() {
  constexpr int kImages = 2, kPixels = 128 * 128;
  std::vector<float> images(kImages * kPixels), out(kImages * kPixels);
  for (size_t i = 0; i < images.size(); ++i) images[i] = (float)(i * 2654435761u >> 24);
  int failed = 0;
  for (unsigned order : {0u, 1u, 7u}) {
    failed |= shim::Host<&normalize_f32_f32_tile>::run(kImages, NT, 128, order, images.data(), out.data(), kPixels, 2, 1e-6f);
    failed |= shim::Host<&normalize_f32_f32_pack>::run(1, NT, 128, order, images.data(), out.data(), 8000, 2, 1e-6f);
    failed |= shim::Host<&normalize_f32_f32_any>::run(1, NT, 128, order, images.data(), out.data(), 1111, 2, 1e-6f);
    failed |= shim::Host<&normalize_f32_f32_tile>::run(1, NT, 128, order, out.data(), out.data(), kPixels, 2, 1e-6f);
  }
  return failed;
}
