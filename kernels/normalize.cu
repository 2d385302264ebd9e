// Normalises every image by its own mean.
//
//   m = mean(x), s = sqrt(mean((x - m)^2)), over one image
//   mode 0 divide:       y = x / max(m, eps)
//   mode 1 subtract:     y = x - m
//   mode 2 standardize:  y = (x - m) / max(s, eps)
//
// Layout:    in (B, N) uint8 or float32, out (B, N) float32, float16 or bfloat16, both contiguous, N = H * W pixels of any
//            size; image b begins at b * N (64-bit). out may be in itself for float32 -> float32, and must not overlap it
//            otherwise.
// Grid:      one block of 512 threads per image; dynamic shared memory: 32 floats.
// Entries:   normalize_IN_OUT_tile  N = 128 * 128, the image lives in registers: one read, one write
//            normalize_IN_OUT_pack  N % 4 == 0: two reads (three to standardize), one write, 4 pixels at a time
//            normalize_IN_OUT_any   any N, pixel by pixel
// Alignment: in and out to 4 elements for tile and pack, to one element for any.
// Accuracy:  sums are of x - x[0], so a constant image gives its constant exactly, and Kahan-compensated where a thread
//            sums many pixels: at most 1e-5 relative to the float64 result, whatever N.
// Rounding:  to nearest even. Compile without --use_fast_math.
#include "cell.cuh"

constexpr int NT = 512, kTilePixels = 128 * 128;

extern __shared__ float scratch[];  // [0, 16) partial sums of the mean, [16, 32) of the variance

struct Affine {  // y = (x - shift) * gain
  float shift, gain;
};

// `deviation()` returns this thread's sum of (x - mean)^2; it is called by all threads or by none.
template <class Deviation>
__device__ __forceinline__ Affine normalization(float mean, float n, int mode, float eps, Deviation deviation) {
  if (mode == 0) return {0.0f, 1.0f / fmaxf(mean, eps)};
  if (mode == 1) return {mean, 1.0f};
  const float variance = block_sum<NT>(deviation(), scratch + NT / kWarp) / n;
  return {mean, 1.0f / fmaxf(sqrtf(variance), eps)};
}

template <class In, class Out>
__device__ __forceinline__ void normalize_tile(const In* in, Out* out, int mode, float eps) {
  constexpr int kPacks = kTilePixels / 4 / NT;
  const i64 base = (i64)blockIdx.x * kTilePixels;
  const float pivot = (float)in[base];
  float v[kPacks][4], sum = 0.0f;
#pragma unroll
  for (int i = 0; i < kPacks; ++i) load<In, 4>(in + base + 4 * (i * NT + (int)threadIdx.x), v[i]);
#pragma unroll
  for (int i = 0; i < kPacks; ++i)
    sum += ((v[i][0] - pivot) + (v[i][1] - pivot)) + ((v[i][2] - pivot) + (v[i][3] - pivot));
  const float mean = pivot + block_sum<NT>(sum, scratch) / kTilePixels;
  const Affine a = normalization(mean, kTilePixels, mode, eps, [&] {
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < kPacks; ++i)
#pragma unroll
      for (int k = 0; k < 4; ++k) squares = fmaf(v[i][k] - mean, v[i][k] - mean, squares);
    return squares;
  });
#pragma unroll
  for (int i = 0; i < kPacks; ++i) {
#pragma unroll
    for (int k = 0; k < 4; ++k) v[i][k] = (v[i][k] - a.shift) * a.gain;
    store<Out, 4>(out + base + 4 * (i * NT + (int)threadIdx.x), v[i]);
  }
}

struct Compensated {  // Kahan's sum: the error does not grow with the number of terms
  float sum = 0.0f, lost = 0.0f;
  __device__ __forceinline__ void add(float term) {
    const float corrected = term - lost, next = sum + corrected;
    lost = (next - sum) - corrected;
    sum = next;
  }
};

template <class In, class Out, int V>
__device__ __forceinline__ void normalize_loop(const In* in, Out* out, i64 n, int mode, float eps) {
  in += blockIdx.x * n;
  out += blockIdx.x * n;
  const float pivot = (float)in[0];
  const i64 first = (i64)threadIdx.x * V, step = NT * V;
  Compensated total;
  float v[V];
  for (i64 i = first; i < n; i += step) {
    load<In, V>(in + i, v);
#pragma unroll
    for (int k = 0; k < V; ++k) total.add(v[k] - pivot);
  }
  const float mean = pivot + block_sum<NT>(total.sum, scratch) / (float)n;
  const Affine a = normalization(mean, (float)n, mode, eps, [&] {
    Compensated squares;
    for (i64 i = first; i < n; i += step) {
      load<In, V>(in + i, v);
#pragma unroll
      for (int k = 0; k < V; ++k) squares.add((v[k] - mean) * (v[k] - mean));
    }
    return squares.sum;
  });
  for (i64 i = first; i < n; i += step) {  // a thread writes only what it alone has read, so out may be in
    load<In, V>(in + i, v);
#pragma unroll
    for (int k = 0; k < V; ++k) v[k] = (v[k] - a.shift) * a.gain;
    store<Out, V>(out + i, v);
  }
}

// Every entry takes the same arguments, so that one launch serves all; tile knows its n.
#define NORMALIZE(NAME, In, Out)                                                                                    \
  extern "C" __global__ void __launch_bounds__(NT, 2)                                                               \
      normalize_##NAME##_tile(const In* in, Out* out, i64, int mode, float eps) {                                   \
    normalize_tile<In, Out>(in, out, mode, eps);                                                                    \
  }                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(NT, 2)                                                               \
      normalize_##NAME##_pack(const In* in, Out* out, i64 n, int mode, float eps) {                                 \
    normalize_loop<In, Out, 4>(in, out, n, mode, eps);                                                              \
  }                                                                                                                 \
  extern "C" __global__ void __launch_bounds__(NT, 2)                                                               \
      normalize_##NAME##_any(const In* in, Out* out, i64 n, int mode, float eps) {                                  \
    normalize_loop<In, Out, 1>(in, out, n, mode, eps);                                                              \
  }

NORMALIZE(u8_f32, u8, float)
NORMALIZE(u8_f16, u8, f16)
NORMALIZE(u8_bf16, u8, bf16)
NORMALIZE(f32_f32, float, float)
NORMALIZE(f32_f16, float, f16)
NORMALIZE(f32_bf16, float, bf16)
