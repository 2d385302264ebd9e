// Device functions that the cell kernels share. Plain CUDA C++17 with no header: NVRTC compiles it with no toolkit, and
// g++ compiles it through the host shim of the tests (which defines CUDA_HOST_SHIM and the few CUDA names used here).
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;

constexpr int kWarp = 32;

// Storage types of the 16-bit outputs: bit patterns, so that no CUDA header is needed.
struct f16 { u16 bits; };
struct bf16 { u16 bits; };

#ifndef CUDA_HOST_SHIM
__device__ __forceinline__ u16 half_bits_rn(float v) {  // round to nearest even
  u16 h;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v));
  return h;
}
#endif

template <class T> __device__ __forceinline__ T convert(float v);
template <> __device__ __forceinline__ float convert<float>(float v) { return v; }
template <> __device__ __forceinline__ f16 convert<f16>(float v) { return {half_bits_rn(v)}; }
template <> __device__ __forceinline__ bf16 convert<bf16>(float v) {  // round to nearest even; sm_75 has no instruction
  const u32 u = __float_as_uint(v);
  return {v != v ? (u16)0x7fff : (u16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}

// V consecutive pixels, loaded and stored at once: the address must be a multiple of V * sizeof(T).
template <class T, int V> struct alignas(V * sizeof(T)) Pack { T v[V]; };

template <class T, int V> __device__ __forceinline__ void load(const T* p, float* f) {
  const Pack<T, V> pack = *reinterpret_cast<const Pack<T, V>*>(p);
#pragma unroll
  for (int k = 0; k < V; ++k) f[k] = (float)pack.v[k];
}

template <class T, int V> __device__ __forceinline__ void store(T* p, const float* f) {
  Pack<T, V> pack;
#pragma unroll
  for (int k = 0; k < V; ++k) pack.v[k] = convert<T>(f[k]);
  *reinterpret_cast<Pack<T, V>*>(p) = pack;
}

// Sum over a block of NT threads, in a fixed order; every thread gets it. `partial` is shared memory for NT / 32 floats
// that nothing else uses between this call and the block's next barrier: two sums in a row need two places.
template <int NT> __device__ __forceinline__ float block_sum(float sum, float* partial) {
#pragma unroll
  for (int d = kWarp / 2; d; d >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = sum;
  __syncthreads();
  float total = 0.0f;
#pragma unroll
  for (int i = 0; i < NT / kWarp; ++i) total += partial[i];
  return total;
}

// Philox4x32-10, the random number generator that counts: the same counter and key give the same words everywhere.
// Salmon et al., Parallel random numbers: as easy as 1, 2, 3, SC 2011, doi.org/10.1145/2063384.2063405
struct Words { u32 w[4]; };

__device__ __forceinline__ Words philox(u32 x0, u32 x1, u32 x2, u32 x3, u64 key) {
  u32 k0 = (u32)key, k1 = (u32)(key >> 32);
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u64 p = (u64)0xD2511F53u * x0, q = (u64)0xCD9E8D57u * x2;
    x0 = (u32)(q >> 32) ^ x1 ^ k0;
    x1 = (u32)q;
    x2 = (u32)(p >> 32) ^ x3 ^ k1;
    x3 = (u32)p;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{x0, x1, x2, x3}};
}

// A word as a number in (0, 1), neither end included. 23 bits are exact in float32, 32 bits in double, so every device
// gets the same number, bit for bit.
__device__ __forceinline__ float uniform23(u32 word) { return ((float)(word >> 9) + 0.5f) * 1.1920928955078125e-7f; }
__device__ __forceinline__ double uniform32(u32 word) { return ((double)word + 0.5) * 2.3283064365386963e-10; }
