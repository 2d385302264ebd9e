// Entries of transform.cu as host functions; compiled by g++ with the kernels' folder on the include path.
#include "cuda_host_shim.h"
#include "transform.cu"
#define EXPORT(S, IN, In, OUT, Out)                                                                  \
  TRANSFORM(transform_##S##_##IN##_##OUT##_plain, S, In, Out, 0, 0)                                  \
  TRANSFORM(transform_##S##_##IN##_##OUT##_blur, S, In, Out, 1, 0)                                   \
  SHIM_EXPORT(transform_##S##_##IN##_##OUT##_plain) SHIM_EXPORT(transform_##S##_##IN##_##OUT##_blur)
#define EXPORT_FILTER(S, IN, In)                                                                     \
  TRANSFORM(transform_##S##_##IN##_f32_filter, S, In, float, 1, 1) SHIM_EXPORT(transform_##S##_##IN##_f32_filter)
EXPORT(24, u8, u8, f32, float)
EXPORT_FILTER(24, u8, u8)
EXPORT(32, u8, u8, f32, float)
EXPORT(96, u8, u8, f32, float)
EXPORT(128, u8, u8, f32, float)
#ifndef FEW_ENTRIES  // planted bugs and the sanitizers need no more, and compile slowly
EXPORT(16, u8, u8, f32, float)
EXPORT(64, u8, u8, f32, float)
EXPORT(120, u8, u8, f32, float)
EXPORT_FILTER(64, u16, u16)
EXPORT_FILTER(120, u8, u8)
EXPORT(96, u16, u16, f32, float)
EXPORT(128, u16, u16, f32, float)
EXPORT(32, u8, u8, f16, f16)
EXPORT(32, u8, u8, bf16, bf16)
EXPORT(96, u16, u16, f16, f16)
EXPORT(96, u16, u16, bf16, bf16)
EXPORT(128, u8, u8, f16, f16)
EXPORT(128, u8, u8, bf16, bf16)
#endif
