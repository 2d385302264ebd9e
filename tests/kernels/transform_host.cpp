// Entries of transform.cu as host functions; compiled by g++ with the kernels' folder on the include path.
#include "cuda_host_shim.h"
#include "transform.cu"
#define EXPORT(S, IN, In, OUT, Out)                                                                  \
  TRANSFORM(transform_##S##_##IN##_##OUT##_plain, S, In, Out, 0)                                     \
  TRANSFORM(transform_##S##_##IN##_##OUT##_blur, S, In, Out, 1)                                      \
  SHIM_EXPORT(transform_##S##_##IN##_##OUT##_plain) SHIM_EXPORT(transform_##S##_##IN##_##OUT##_blur)
EXPORT(32, u8, u8, f32, float)
EXPORT(96, u8, u8, f32, float)
EXPORT(128, u8, u8, f32, float)
#ifndef FEW_ENTRIES  // planted bugs and the sanitizers need no more, and compile slowly
EXPORT(64, u8, u8, f32, float)
EXPORT(96, u16, u16, f32, float)
EXPORT(128, u16, u16, f32, float)
EXPORT(32, u8, u8, f16, f16)
EXPORT(32, u8, u8, bf16, bf16)
EXPORT(96, u16, u16, f16, f16)
EXPORT(96, u16, u16, bf16, bf16)
EXPORT(128, u8, u8, f16, f16)
EXPORT(128, u8, u8, bf16, bf16)
#endif
