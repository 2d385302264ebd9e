// Raw cells of any size to normalised square images in one launch: gather, affine map, blur, noise, normalisation.
//
//   g(x, y) = bilinear sample of the cell at A (x + 0.5, y + 0.5, 1), in grey levels 0..255
//   g       = separable Gaussian of g, radius ceil(3 sigma), mirrored about the outermost pixel centres (dcb|abcd|cba)
//   g(x, y) = g(x, y) + std * normal(x, y)
//   out     = g / max(mean, eps) | g - mean | (g - mean) / max(deviation, eps)             (mode 0 | 1 | 2)
//
// A is fit x flip x rotation x magnification x shift. It and sigma, std and the key of the noise are drawn here, from
// (seed, epoch, position) alone: fastcell/ops/augmentation.py and matrices.py define them, fastcell/ops/cpu/transform.py
// is the CPU twin.
// So a captured graph replays with new contents of index, position and clock.
//
// Pixel i covers [i, i + 1], centre at i + 0.5, in the cell and in the image. Coordinates are Q32.32 fixed point in 64
// bits: float32 misses the accuracy on wide cells, and integer steps give every device the same taps. Outside the cell
// its edge continues, or, with a border, it lies on an endless plane of that grey level. Normals are Box and Muller's
// (1958): Philox counter y * Q + i, Q = S / 4, gives those of row y at columns i + Q k, k = 0..3.
//
// With a filter (CELL_FILTER) a cell that is scaled down is sampled through a triangle as wide as the scale, along both
// axes of the cell; a map that rotates samples the cell, filtered to about its final size, bilinearly.
//
// Layout:    pixels: pool of num_pixels uint8, or uint16 with 65535 for grey level 255; cell n begins at offset[n]
//            (64-bit) and has height[n] rows of width[n] pixels. border and um_per_px may be null; a NaN border lets
//            the edge continue, a NaN um_per_px is unknown. clock: seed (the bits of a uint64) and epoch.
//            fit 0 stretch, 1 contain, 2 scale (scale_um_per_px <= 0: one image pixel per raw pixel).
//            out (B, 1, S, S), contiguous.
// Refused:   an index outside [0, num_cells), a cell that is empty or not all inside the pool, a um_per_px <= 0, and a
//            map beyond 2^30 raw pixels give an image of NaN; nothing outside the pool is read.
// Grid:      B blocks, one per image, of 4 S threads.
// Shared:    dynamic: 4 S^2 bytes with blur (65,536 for S = 128: what sm_75 can give a block), 112 + S without.
// Alignment: every array to its element.
// Compiled:  one variant at a time, -DCELL_SIZE=S, a multiple of 8 from 16 to 128, -DCELL_IN=u8|u16
//            -DCELL_OUT=float|f16|bf16 -DCELL_BLUR=0|1 -DCELL_FILTER=0|1. With CELL_BLUR=0 blur_sigma is not looked at.
// Registers: the image lives in them. Thread t has columns t % Q + Q k of ceil(S / 16) rows: a warp gathers and stores
//            neighbours, and a thread has all normals of its counters. Where 16 does not divide S, rows beyond the
//            image are computed and dropped. Only blur needs the image in shared memory.
// Accuracy:  at most 1e-5 of the image's largest value from the float64 result; a constant image is exactly constant.
// Rounding:  to nearest even. Compile without --use_fast_math.
#include "cell.cuh"

extern __shared__ __align__(16) float scratch[];  // Params, then partial sums; while blurring the image, over both

constexpr int kColumns = 4;  // of a thread; Philox gives four normals
template <int S> constexpr int kRowsOf = (S + 15) / 16;  // of a thread
template <int S> __device__ __forceinline__ bool is_row(int y) { return S % 16 == 0 || y < S; }
constexpr double kMaxCoordinate = 1073741824.0;

template <class In> struct Pool {
  const In* __restrict__ pixels;
  i64 num_pixels;
  const i64* __restrict__ offset;
  const int* __restrict__ height;
  const int* __restrict__ width;
  const float* __restrict__ border;
  const float* __restrict__ um_per_px;
  i64 num_cells;
};

struct Fit {
  int kind;
  double scale_um_per_px;
};

struct Augmentation {
  int flip_horizontal, flip_vertical;
  double rotation_rad, translation, scale, blur_sigma, blur_probability, noise_std, noise_probability;
};

// What the threads of a block have in common; worked out by the first of them.
struct Params {
  i64 x, y, x_right, y_right, x_down, y_down;  // Q32: source of image pixel (0, 0), steps to the next column and row
  i64 offset;
  u64 noise_seed;
  int height, width;  // height 0: refused
  float border, blur_sigma, noise_std;
  int blur_radius;
  // With a filter: reach of the triangle [raw pixels], 0 where none is needed. If `split`, the map starts at the
  // filtered cell, of height by width pixels; else it starts at the cell.
  float reach_x, reach_y;
  int raw_height, raw_width, split;
};
constexpr int kParamsFloats = 28;
static_assert(sizeof(Params) <= 4 * kParamsFloats && kParamsFloats % 4 == 0, "Params must fit, partial sums follow");

// Keeps the compiler from adding the parts of an address in another order: eight of them held over a loop would spill.
template <class T> __device__ __forceinline__ const T* opaque(const T* p) {
#ifndef CUDA_HOST_SHIM
  asm("" : "+l"(p));
#endif
  return p;
}

template <class In> constexpr float kGrey = 1.0f;  // grey levels of a raw pixel's unit
template <> constexpr float kGrey<u16> = 1.0f / 257.0f;

__device__ __forceinline__ i64 to_q32(double value) { return __double2ll_rn(value * 4294967296.0); }

// Adapts a map of a cell to the filter, as sample_filtered of fastcell/ops/cpu/filter.py does.
__device__ __forceinline__ void split_map(Params& p, double& xx, double& xy, double& yx, double& yy, double& x,
                                          double& y) {
  const double step_x = sqrt(xx * xx + xy * xy), step_y = sqrt(yx * yx + yy * yy);
  if (!(step_x > 1.0 || step_y > 1.0)) return;
  if (xy == 0.0 && yx == 0.0) {
    p.reach_x = (float)fmax(fabs(xx), 1.0), p.reach_y = (float)fmax(fabs(yy), 1.0);
    return;
  }
  p.split = 1;
  p.width = (int)ceil(p.raw_width / fmax(1.0, step_x) - 1e-9);
  p.height = (int)ceil(p.raw_height / fmax(1.0, step_y) - 1e-9);
  const double scale_x = (double)p.raw_width / p.width, scale_y = (double)p.raw_height / p.height;
  p.reach_x = (float)scale_x, p.reach_y = (float)scale_y;
  xx /= scale_x, xy /= scale_x, x /= scale_x;
  yx /= scale_y, yy /= scale_y, y /= scale_y;
}

template <int S, bool kFilter, class In>
__device__ __forceinline__ void draw(const Pool<In>& pool, i64 cell, u64 position, const i64* clock, Fit fit,
                                     const Augmentation& most, Params& p) {
  p.height = p.blur_radius = 0;
  p.blur_sigma = p.noise_std = 0.0f;
  p.noise_seed = 0;
  if constexpr (kFilter) p.reach_x = p.reach_y = 0.0f, p.split = 0;
  if (cell < 0 || cell >= pool.num_cells) return;
  const int height = pool.height[cell], width = pool.width[cell];
  const i64 offset = pool.offset[cell];
  if (height < 1 || width < 1 || offset < 0 || offset > pool.num_pixels) return;
  if ((i64)height * width > pool.num_pixels - offset) return;

  double base_x = (double)width / S, base_y = (double)height / S;  // raw pixels per image pixel
  if (fit.kind == 1) base_x = base_y = fmax(base_x, base_y);
  if (fit.kind == 2) {
    base_x = base_y = 1.0;
    const double raw = pool.um_per_px && fit.scale_um_per_px > 0.0 ? (double)pool.um_per_px[cell] : 1.0;
    if (raw <= 0.0) return;
    if (pool.um_per_px && fit.scale_um_per_px > 0.0 && raw == raw) base_x = base_y = fit.scale_um_per_px / raw;
  }

  double xx = base_x, xy = 0.0, yx = 0.0, yy = base_y, start_x = -S / 2.0, start_y = -S / 2.0;
  const bool blurs = most.blur_sigma > 0.0 && most.blur_probability > 0.0;
  const bool adds_noise = most.noise_std > 0.0 && most.noise_probability > 0.0;
  if (most.flip_horizontal || most.flip_vertical || most.rotation_rad > 0.0 || most.translation > 0.0 ||
      most.scale > 0.0 || blurs || adds_noise) {
    const u32 low = (u32)position, high = (u32)(position >> 32), epoch = (u32)clock[1];
    const u64 seed = (u64)clock[0];
    const Words a = philox(low, high, epoch, 0u, seed), b = philox(low, high, epoch, 1u, seed),
                c = philox(low, high, epoch, 2u, seed);
    const double smallest = 1.0 / (1.0 + most.scale);
    const double scale = smallest + (1.0 + most.scale - smallest) * uniform32(a.w[3]);
    const double mirror_x = (most.flip_horizontal && uniform32(a.w[0]) < 0.5 ? -base_x : base_x) / scale;
    const double mirror_y = (most.flip_vertical && uniform32(a.w[1]) < 0.5 ? -base_y : base_y) / scale;
    double sine = 0.0, cosine = 1.0;
    // sincospi has no slow path for huge angles, which sincos keeps on the stack
    if (most.rotation_rad > 0.0)
      sincospi(most.rotation_rad * (2.0 * uniform32(a.w[2]) - 1.0) * 0.31830988618379067, &sine, &cosine);
    xx = mirror_x * cosine, xy = -mirror_x * sine;
    yx = mirror_y * sine, yy = mirror_y * cosine;
    start_x -= most.translation * (2.0 * uniform32(b.w[0]) - 1.0) * S;
    start_y -= most.translation * (2.0 * uniform32(b.w[1]) - 1.0) * S;
    if (uniform32(b.w[2]) < most.blur_probability) {
      const float sigma = (float)(most.blur_sigma * uniform32(b.w[3]));
      p.blur_sigma = sigma, p.blur_radius = (int)ceil(3.0 * (double)sigma);
    }
    if (uniform32(c.w[0]) < most.noise_probability) p.noise_std = (float)(most.noise_std * uniform32(c.w[1]));
    p.noise_seed = (u64)c.w[2] | (u64)c.w[3] << 32;
  }
  double x = width / 2.0 + xx * start_x + xy * start_y, y = height / 2.0 + yx * start_x + yy * start_y;
  if (!((fabs(xx) + fabs(xy)) * S + fabs(x) < kMaxCoordinate)) return;
  if (!((fabs(yx) + fabs(yy)) * S + fabs(y) < kMaxCoordinate)) return;

  if constexpr (kFilter) {
    p.height = p.raw_height = height, p.width = p.raw_width = width;
    split_map(p, xx, xy, yx, yy, x, y);
  }
  p.x = to_q32(0.5 * xx + 0.5 * xy + x - 0.5), p.x_right = to_q32(xx), p.x_down = to_q32(xy);
  p.y = to_q32(0.5 * yx + 0.5 * yy + y - 0.5), p.y_right = to_q32(yx), p.y_down = to_q32(yy);
  p.border = pool.border ? pool.border[cell] : __uint_as_float(0x7fc00000u);
  p.offset = offset;
  if constexpr (!kFilter) p.height = height, p.width = width;
}

// Two neighbours along one axis, clamped to the cell: a sample beyond it is its edge, whatever the weight.
struct Tap {
  u32 low, high;
  float weight;  // of high
  bool low_inside, high_inside;
};

__device__ __forceinline__ Tap tap(i64 at, int length) {
  const int first = (int)(at >> 32), last = length - 1;
  return {(u32)min(max(first, 0), last), (u32)min(max(first + 1, 0), last), (float)(u32)at * 2.3283064365386963e-10f,
          first >= 0 && first <= last, first >= -1 && first < last};
}

// Makes room in the last row. So a loop over rows names its registers without being unrolled: unrolled, the code is
// three times as long and ptxas runs out of registers.
template <int kRows> __device__ __forceinline__ void move_up(float (&v)[kRows][kColumns]) {
#pragma unroll
  for (int r = 1; r < kRows; ++r)
#pragma unroll
    for (int k = 0; k < kColumns; ++k) v[r - 1][k] = v[r][k];
}

// kAligned: no rotation, so the taps of a column serve all rows. kBordered: p.border lies around the cell.
// p is read again in every row: kept in registers it would leave too few for the loads.
template <int S, bool kAligned, bool kBordered, class In>
__device__ __forceinline__ void sample(const In* __restrict__ cell, const volatile Params& p, int column, int row,
                                       float (&v)[kRowsOf<S>][kColumns]) {
  constexpr int kRows = kRowsOf<S>, kNext = S / 4;
  const int height = p.height, width = p.width;
  i64 row_x = p.x + column * p.x_right + row * p.x_down, row_y = p.y + column * p.y_right + row * p.y_down;
  u32 low[kColumns];
  float weight[kColumns];
  if constexpr (kAligned) {
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const Tap x = tap(row_x + k * kNext * p.x_right, width);
      low[k] = x.low;
      weight[k] = x.low == x.high ? 0.0f : x.weight;
    }
  }
#pragma unroll 1
  for (int r = 0; r < kRows; ++r) {
    move_up(v);
    const float outside = kBordered ? p.border * (1.0f / kGrey<In>) : 0.0f;
    const i64 jump_x = kNext * p.x_right, jump_y = kNext * p.y_right, down_x = p.x_down, down_y = p.y_down;
    i64 at_x = row_x, at_y = row_y;
    Tap y = tap(at_y, height);
    const In *upper = opaque(cell + (u64)y.low * (u32)width), *lower = opaque(cell + (u64)y.high * (u32)width);
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      Tap x;
      if constexpr (kAligned) {
        low[k] += (u32)down_x;  // 0, which ptxas cannot know: it would keep eight 64-bit offsets over the loop
        x = {low[k], min(low[k] + 1, (u32)width - 1), weight[k], true, true};
      } else {
        x = tap(at_x, width);
        y = tap(at_y, height);
        upper = opaque(cell + (u64)y.low * (u32)width);
        lower = opaque(cell + (u64)y.high * (u32)width);
        at_x += jump_x;
        at_y += jump_y;
      }
      float a = (float)__ldg(upper + x.low), b = (float)__ldg(upper + x.high);
      float c = (float)__ldg(lower + x.low), d = (float)__ldg(lower + x.high);
      if constexpr (kBordered) {
        a = x.low_inside && y.low_inside ? a : outside;
        b = x.high_inside && y.low_inside ? b : outside;
        c = x.low_inside && y.high_inside ? c : outside;
        d = x.high_inside && y.high_inside ? d : outside;
      }
      a = fmaf(x.weight, b - a, a);  // this form gives a constant cell its constant exactly
      c = fmaf(x.weight, d - c, c);
      v[kRows - 1][k] = fmaf(y.weight, c - a, a) * kGrey<In>;
    }
    row_x += down_x;
    row_y += down_y;
  }
}

// Weights of the pixels of one axis under a triangle: pixel low + i weighs gain * max(0, 1 - |i - centre| * slope).
struct Window {
  int low, high;
  float centre, slope, gain;
  float outside;  // share of what lies around the cell
};

__device__ __forceinline__ float share(const Window& w, int i) {
  return fmaxf(0.0f, 1.0f - fabsf((float)i - w.centre) * w.slope);
}

// Sum of a triangle of a reach at distances first, first + 1, ...
__device__ __forceinline__ double side(double first, double reach) {
  const double count = reach < first ? 0.0 : floor(reach - first) + 1.0;
  return count - (count * first + 0.5 * count * (count - 1.0)) / reach;
}

// `at` is the centre of the triangle [raw pixels]. If `clamp`, nothing lies around the cell and it stays inside.
__device__ __forceinline__ Window window(double at, float reach, int length, bool clamp) {
  if (clamp) at = fmin(fmax(at, 0.5), length - 0.5);
  Window w;
  w.low = (int)fmin(fmax(floor(at - reach + 0.5), 0.0), (double)length);
  w.high = (int)fmin(fmax(floor(at + reach + 0.5), 0.0), (double)length);
  w.centre = (float)(at - 0.5 - w.low);
  w.slope = 1.0f / reach;
  float inside = 0.0f;
#pragma unroll 1
  for (int i = 0; i < w.high - w.low; ++i) inside += share(w, i);
  w.outside = 0.0f;
  w.gain = 1.0f / inside;
  if (!clamp) {
    const double right = ceil(at - 0.5) + 0.5 - at;  // distance of the next pixel's centre
    const double total = side(right, reach) + side(1.0 - right, reach);
    w.gain = (float)(1.0 / total);
    w.outside = (float)(1.0 - inside / total);
  }
  return w;
}

// Sums are of differences, so a constant cell gives its constant exactly. In units of a raw pixel, as `level` is.
template <class In>
__device__ __forceinline__ float filtered(const In* __restrict__ cell, int pitch, const Window& x, const Window& y,
                                          float level) {
  if (x.low >= x.high || y.low >= y.high) return level;
  const In* line = cell + (u64)(u32)y.low * (u32)pitch + (u32)x.low;
  const float pivot = (float)__ldg(line);
  float sum = 0.0f;
#pragma unroll 1
  for (int j = 0; j < y.high - y.low; ++j, line += pitch) {
    float part = 0.0f;
#pragma unroll 1
    for (int i = 0; i < x.high - x.low; ++i) part = fmaf(share(x, i), (float)__ldg(line + i) - pivot, part);
    sum = fmaf(share(y, j), fmaf(part, x.gain, x.outside * (level - pivot)), sum);
  }
  return pivot + fmaf(sum, y.gain, y.outside * (level - pivot));
}

// A cell that is scaled down. The loads of neighbours overlap by far, and the caches have them.
template <int S, class In>
__device__ __forceinline__ void sample_filtered(const In* __restrict__ cell, const volatile Params& p, int column,
                                                int row, float (&v)[kRowsOf<S>][kColumns]) {
  constexpr int kRows = kRowsOf<S>, kNext = S / 4;
  const int height = p.height, width = p.width, raw_height = p.raw_height, raw_width = p.raw_width;
  const float reach_x = p.reach_x, reach_y = p.reach_y;
  const bool clamp = p.border != p.border;
  const float level = clamp ? 0.0f : p.border * (1.0f / kGrey<In>);
#pragma unroll 1
  for (int r = 0; r < kRows; ++r) {
    move_up(v);
    float found[kColumns] = {};
#pragma unroll 1
    for (int k = 0; k < kColumns; ++k) {
      const int at_column = column + k * kNext, at_row = row + r;
      const i64 at_x = p.x + at_column * p.x_right + at_row * p.x_down;
      const i64 at_y = p.y + at_column * p.y_right + at_row * p.y_down;
      float value;
      if (!p.split) {
        const Window x = window(at_x * 2.3283064365386963e-10 + 0.5, reach_x, raw_width, clamp);
        const Window y = window(at_y * 2.3283064365386963e-10 + 0.5, reach_y, raw_height, clamp);
        value = filtered(cell, raw_width, x, y, level);
      } else {
        const Tap x = tap(at_x, width), y = tap(at_y, height);
        const double scale_x = (double)raw_width / width, scale_y = (double)raw_height / height;
        float corner[4] = {};
#pragma unroll 1
        for (int c = 0; c < 4; ++c) {
          const bool inside = (c & 1 ? x.high_inside : x.low_inside) && (c & 2 ? y.high_inside : y.low_inside);
          float at_corner = level;
          if (clamp || inside)
            at_corner = filtered(cell, raw_width,
                                 window(((c & 1 ? x.high : x.low) + 0.5) * scale_x, reach_x, raw_width, true),
                                 window(((c & 2 ? y.high : y.low) + 0.5) * scale_y, reach_y, raw_height, true), level);
#pragma unroll
          for (int i = 0; i < 4; ++i) corner[i] = i == c ? at_corner : corner[i];  // registers have no index
        }
        const float upper = fmaf(x.weight, corner[1] - corner[0], corner[0]);
        const float lower = fmaf(x.weight, corner[3] - corner[2], corner[2]);
        value = fmaf(y.weight, lower - upper, upper);
      }
#pragma unroll
      for (int i = 0; i < kColumns; ++i) found[i] = i == k ? value : found[i];
    }
#pragma unroll
    for (int k = 0; k < kColumns; ++k) v[kRows - 1][k] = found[k] * kGrey<In>;
  }
}

// Index reflected about the centres of the outermost pixels; the short form holds for -2 S < i < 3 S, and a blur reaches
// 48 pixels beyond the last row.
template <int S> __device__ __forceinline__ int mirror(int i) {
  if constexpr (S >= 32) return abs(S - 1 - abs(S - 1 - abs(i)));
  const int place = abs(i) % (2 * (S - 1));
  return place >= S ? 2 * (S - 1) - place : place;
}

template <int S>
__device__ __forceinline__ void to_shared(float* own, int row, const float (&v)[kRowsOf<S>][kColumns]) {
#pragma unroll
  for (int r = 0; r < kRowsOf<S>; ++r)
#pragma unroll
    for (int k = 0; k < kColumns; ++k)
      if (is_row<S>(row + r)) own[r * S + k * (S / 4)] = v[r][k];
}

// Leaves with `scratch` free for use.
template <int S>
__device__ __forceinline__ void blur(float sigma, int radius, int column, int row, float (&v)[kRowsOf<S>][kColumns]) {
  const int lane = threadIdx.x % kWarp;
  float* const own = scratch + row * S + column;
  // Lane j keeps weights j and j + 32: a radius of up to 48 costs two registers.
  const float near_z = lane / sigma, far_z = (lane + kWarp) / sigma;
  float near = lane <= radius ? expf(-0.5f * near_z * near_z) : 0.0f;
  float far = lane + kWarp <= radius ? expf(-0.5f * far_z * far_z) : 0.0f;
  float total = (lane ? 2.0f * near : near) + 2.0f * far;
#pragma unroll
  for (int d = kWarp / 2; d; d >>= 1) total += __shfl_xor_sync(0xffffffffu, total, d);
  near /= total;
  far /= total;
  const float centre = __shfl_sync(0xffffffffu, near, 0);

  __syncthreads();  // all have read the parameters
  to_shared<S>(own, row, v);
  __syncthreads();  // all have written the image
#pragma unroll
  for (int r = 0; r < kRowsOf<S>; ++r)
#pragma unroll
    for (int k = 0; k < kColumns; ++k) v[r][k] *= centre;
#pragma unroll 1
  for (int j = 1; j <= radius; ++j) {
    const float weight = __shfl_sync(0xffffffffu, j < kWarp ? near : far, j % kWarp);
#pragma unroll
    for (int k = 0; k < kColumns; ++k) {
      const float* left = scratch + row * S + mirror<S>(column + k * (S / 4) - j);
      const float* right = scratch + row * S + mirror<S>(column + k * (S / 4) + j);
#pragma unroll
      for (int r = 0; r < kRowsOf<S>; ++r)
        if (is_row<S>(row + r)) v[r][k] = fmaf(weight, left[r * S] + right[r * S], v[r][k]);
    }
  }
  __syncthreads();  // all have read the rows
  to_shared<S>(own, row, v);
  __syncthreads();  // all have written the rows
#pragma unroll
  for (int r = 0; r < kRowsOf<S>; ++r)
#pragma unroll
    for (int k = 0; k < kColumns; ++k) v[r][k] *= centre;
#pragma unroll 1
  for (int j = 1; j <= radius; ++j) {
    const float weight = __shfl_sync(0xffffffffu, j < kWarp ? near : far, j % kWarp);
#pragma unroll
    for (int r = 0; r < kRowsOf<S>; ++r) {
      const float* up = scratch + mirror<S>(row + r - j) * S + column;
      const float* down = scratch + mirror<S>(row + r + j) * S + column;
#pragma unroll
      for (int k = 0; k < kColumns; ++k) v[r][k] = fmaf(weight, up[k * (S / 4)] + down[k * (S / 4)], v[r][k]);
    }
  }
  __syncthreads();  // all have read the columns
}

template <int S>
__device__ __forceinline__ void add_noise(float std, u64 seed, int column, int row, float (&v)[kRowsOf<S>][kColumns]) {
#pragma unroll 1
  for (int y = row; y < row + kRowsOf<S>; ++y) {
    const Words words = philox((u32)(y * (S / 4) + column), 0u, 0u, 0u, seed);
    float noisy[kColumns];
#pragma unroll
    for (int k = 0; k < kColumns; k += 2) {
      const float radius = std * sqrtf(-2.0f * logf(uniform23(words.w[k])));
      float sine, cosine;
      sincospif(2.0f * uniform23(words.w[k + 1]), &sine, &cosine);
      noisy[k] = fmaf(radius, cosine, v[0][k]);
      noisy[k + 1] = fmaf(radius, sine, v[0][k + 1]);
    }
    move_up(v);
#pragma unroll
    for (int k = 0; k < kColumns; ++k) v[kRowsOf<S> - 1][k] = noisy[k];
  }
}

// Mean of an image of which every thread of NT has an equal part; every thread gets it. All sums are of differences, so
// a constant image gives its constant exactly. `partial` as for block_sum.
template <int NT> __device__ __forceinline__ float block_mean(float mean, float* partial) {
#pragma unroll
  for (int d = kWarp / 2; d; d >>= 1) mean = 0.5f * (mean + __shfl_xor_sync(0xffffffffu, mean, d));
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = mean;
  __syncthreads();
  const float first = partial[0];
  float rest = 0.0f;
#pragma unroll
  for (int i = 1; i < NT / kWarp; ++i) rest += partial[i] - first;
  return first + rest / (NT / kWarp);
}

// Mean of an image of which the threads of NT have unequal parts, or none; every thread gets it. `v` holds the pixels of
// rows from `row` on. `partial` has place for two sums.
template <int S, int NT>
__device__ __forceinline__ float uneven_mean(const float (&v)[kRowsOf<S>][kColumns], int row, float* partial) {
  float* const pivot = partial + NT / kWarp;
  if (threadIdx.x == 0) *pivot = v[0][0];
  __syncthreads();  // one has written a pixel of the image
  const float first = *pivot;
  float sum = 0.0f;
#pragma unroll
  for (int r = 0; r < kRowsOf<S>; ++r)
    if (is_row<S>(row + r)) sum += ((v[r][0] - first) + (v[r][1] - first)) + ((v[r][2] - first) + (v[r][3] - first));
  return first + block_sum<NT>(sum, partial) / (S * S);
}

template <int S, class In, class Out, bool kBlur, bool kFilter>
__device__ __forceinline__ void transform_cell(const Pool<In>& pool, const i64* __restrict__ index,
                                               const i64* __restrict__ position, const i64* __restrict__ clock,
                                               Out* __restrict__ out, Fit fit, const Augmentation& most, int mode,
                                               float eps) {
  static_assert(S % 8 == 0 && S >= 16 && S <= 128, "whole warps of 4 S threads, and at most 8 rows a thread");
  constexpr int kThreads = 4 * S, kRows = kRowsOf<S>, kPixels = S * S;
  const int column = threadIdx.x % (S / 4), row = threadIdx.x / (S / 4) * kRows;
  if (threadIdx.x == 0)
    draw<S, kFilter>(pool, index[blockIdx.x], (u64)position[blockIdx.x], clock, fit, most, *reinterpret_cast<Params*>(scratch));
  __syncthreads();  // one has written the parameters
  const volatile Params& p = *reinterpret_cast<const volatile Params*>(scratch);
  if (p.height == 0) {
    for (int i = threadIdx.x; i < kPixels; i += kThreads)
      out[(i64)blockIdx.x * kPixels + i] = convert<Out>(__uint_as_float(0x7fc00000u));
    return;
  }

  float v[kRows][kColumns] = {};
  const In* cell = pool.pixels + p.offset;
  const bool aligned = p.x_down == 0 && p.y_right == 0, bordered = p.border == p.border;
  if (kFilter && p.reach_x > 0.0f) sample_filtered<S>(cell, p, column, row, v);
  else if (bordered) sample<S, false, true>(cell, p, column, row, v);
  else if (aligned) sample<S, true, false>(cell, p, column, row, v);
  else sample<S, false, false>(cell, p, column, row, v);
  const float noise_std = p.noise_std;
  const u64 noise_seed = p.noise_seed;
  if constexpr (kBlur)
    if (p.blur_sigma > 0.0f) blur<S>(p.blur_sigma, p.blur_radius, column, row, v);  // from here on p is gone
  if (noise_std > 0.0f) add_noise<S>(noise_std, noise_seed, column, row, v);

  float* const partial = scratch + kParamsFloats;
  float mean;
  if constexpr (S % 16 == 0) {
    float sum = 0.0f;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      sum += ((v[r][0] - v[0][0]) + (v[r][1] - v[0][0])) + ((v[r][2] - v[0][0]) + (v[r][3] - v[0][0]));
    mean = block_mean<kThreads>(v[0][0] + sum / (kRows * kColumns), partial);
  } else {
    mean = uneven_mean<S, kThreads>(v, row, partial);
  }
  float shift = mean, gain = 1.0f;
  if (mode == 0) {
    shift = 0.0f;
    gain = 1.0f / fmaxf(mean, eps);
  } else if (mode == 2) {
    float squares = 0.0f;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int k = 0; k < kColumns; ++k)
        if (is_row<S>(row + r)) squares = fmaf(v[r][k] - mean, v[r][k] - mean, squares);
    gain = 1.0f / fmaxf(sqrtf(block_sum<kThreads>(squares, partial + kThreads / kWarp) / kPixels), eps);
  }
  out += (i64)blockIdx.x * kPixels + row * S + column;
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int k = 0; k < kColumns; ++k)
      if (is_row<S>(row + r)) out[r * S + k * (S / 4)] = convert<Out>((v[r][k] - shift) * gain);
}

// 256 / S blocks share a multiprocessor's 65,536 registers, which leaves 64 to 88 a thread. The filter takes more, so half
// as many blocks run.
template <int S, bool kFilter> constexpr int kBlocks = kFilter ? (S > 64 ? 1 : 128 / S) : 256 / S;

#define TRANSFORM(NAME, S, In, Out, BLUR, FILTER)                                                                      \
  extern "C" __global__ void __launch_bounds__(4 * S, (kBlocks<S, FILTER>)) NAME(                                   \
      const In* pixels, i64 num_pixels, const i64* offset, const int* height, const int* width, const float* border,   \
      const float* um_per_px, i64 num_cells, const i64* index, const i64* position, const i64* clock, Out* out,        \
      int fit, double scale_um_per_px, int flip_horizontal, int flip_vertical, double rotation_rad,                    \
      double translation, double scale, double blur_sigma, double blur_probability, double noise_std,                  \
      double noise_probability, int mode, float eps) {                                                                 \
    transform_cell<S, In, Out, BLUR, FILTER>(                                                                          \
        {pixels, num_pixels, offset, height, width, border, um_per_px, num_cells}, index, position, clock, out,        \
        {fit, scale_um_per_px},                                                                                        \
        {flip_horizontal, flip_vertical, rotation_rad, translation, scale, blur_sigma, blur_probability, noise_std,    \
         noise_probability},                                                                                           \
        mode, eps);                                                                                                    \
  }

#ifdef CELL_SIZE
TRANSFORM(transform, CELL_SIZE, CELL_IN, CELL_OUT, CELL_BLUR, CELL_FILTER)
#endif
