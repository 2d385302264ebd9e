// All entries of normalize.cu as host functions; compiled by g++ with the kernels' folder on the include path.
#include "cuda_host_shim.h"
#include "normalize.cu"
#define EXPORT(NAME) SHIM_EXPORT(normalize_##NAME##_tile) SHIM_EXPORT(normalize_##NAME##_pack) SHIM_EXPORT(normalize_##NAME##_any)
EXPORT(u8_f32) EXPORT(u8_f16) EXPORT(u8_bf16) EXPORT(f32_f32) EXPORT(f32_f16) EXPORT(f32_bf16)
