// Runs a CUDA kernel on the CPU: one fiber per CUDA thread, so barriers and shuffles are real.
//
// Between barriers of the block its warps run one after the other, each as far as it gets, and so do the lanes between
// barriers of the warp: in a chosen order (0 forward, 1 reverse, more: shuffled with that seed), which turns most
// missing barriers into a wrong answer. Shared memory is poisoned with NaN, and a write past the launch's size is
// reported. Under -fsanitize=thread every fiber is a fiber of ThreadSanitizer and only the barriers below order memory,
// so any other data race between CUDA threads is reported with both stacks. Under -fsanitize=address shared memory
// beyond the launch's size is poisoned, so that reads of it are seen too.
#pragma once
#define CUDA_HOST_SHIM 1
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#define SHIM_TSAN 1
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#define SHIM_ASAN 1
#endif
#define SHIM_QUIET __attribute__((noinline, no_sanitize("thread")))  // the scheduler itself is not under test

// The CUDA names that the kernels use.
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes)
#define __shared__ thread_local
struct Index3 { unsigned x, y, z; };
static thread_local Index3 threadIdx, blockIdx, blockDim, gridDim;
static inline uint32_t __float_as_uint(float f) { uint32_t u; std::memcpy(&u, &f, 4); return u; }
static inline float __uint_as_float(uint32_t u) { float f; std::memcpy(&f, &u, 4); return f; }
static inline long long __double2ll_rn(double d) { return std::llrint(d); }
template <class T> static inline T __ldg(const T* p) { return *p; }
static inline void sincospi(double x, double* s, double* c) { *s = std::sin(M_PI * x); *c = std::cos(M_PI * x); }
static inline void sincospif(float x, float* s, float* c) {
  *s = (float)std::sin(M_PI * (double)x);
  *c = (float)std::cos(M_PI * (double)x);
}
using std::abs, std::max, std::min;
static inline unsigned short half_bits_rn(float f) {
  _Float16 h = (_Float16)f;
  unsigned short u;
  std::memcpy(&u, &h, 2);
  return u;
}

constexpr int kSharedBytes = 232448;  // 227 KiB, the most any architecture gives a block
alignas(128) thread_local float scratch[kSharedBytes / 4];  // the kernels' `extern __shared__ float scratch[]`

namespace shim {
enum State { RUN, BLOCK_BARRIER, WARP_BARRIER, DONE };
struct Fiber {
  ucontext_t context;
  jmp_buf here;
  bool started;
  std::unique_ptr<char[]> stack;
  State state;
  void* site;  // which barrier it waits at
  float slot;  // what it offers in a shuffle
  void* tsan = nullptr;
  void* asan = nullptr;
  unsigned epoch[2];
};
constexpr size_t kStackBytes = 128 << 10;
constexpr int kLanes = 32;
struct Block {
  std::vector<Fiber> fibers;
  ucontext_t main;
  jmp_buf main_here;
  int current = -1;
  std::function<void()> body;
  void* main_tsan = nullptr;
  void* main_asan = nullptr;
  const void* main_stack = nullptr;
  size_t main_stack_bytes = 0;
  char start_tag, end_tag, block_tag[2], warp_tag[32][2];
};
static thread_local Block* block;

// Switches of stacks. swapcontext asks the system for the signal mask each time, so only the sanitizers, which know no
// other way, get it; AddressSanitizer wants to know which stack is in use.
#if defined(SHIM_TSAN) || defined(SHIM_ASAN)
SHIM_QUIET static void to_main(Block* b, Fiber& f) {
#ifdef SHIM_ASAN
  __sanitizer_start_switch_fiber(f.state == DONE ? nullptr : &f.asan, b->main_stack, b->main_stack_bytes);
#endif
  swapcontext(&f.context, &b->main);
#ifdef SHIM_ASAN
  __sanitizer_finish_switch_fiber(f.asan, &b->main_stack, &b->main_stack_bytes);
#endif
}

SHIM_QUIET static void to_fiber(Block& b, Fiber& f) {
#ifdef SHIM_ASAN
  __sanitizer_start_switch_fiber(&b.main_asan, f.stack.get(), kStackBytes);
#endif
  swapcontext(&b.main, &f.context);
#ifdef SHIM_ASAN
  __sanitizer_finish_switch_fiber(b.main_asan, nullptr, nullptr);
#endif
}
#else
SHIM_QUIET static void to_main(Block* b, Fiber& f) {
  if (!_setjmp(f.here)) _longjmp(b->main_here, 1);
}

SHIM_QUIET static void to_fiber(Block& b, Fiber& f) {
  if (_setjmp(b.main_here)) return;
  if (f.started) _longjmp(f.here, 1);
  f.started = true;
  setcontext(&f.context);
}
#endif

SHIM_QUIET static void yield(State state, void* site) {
  Block* b = block;
  Fiber& f = b->fibers[b->current];
  f.state = state;
  f.site = site;
#ifdef SHIM_TSAN
  // Two alternating tags per barrier: a fiber that already reached the next barrier must not count as before one
  // that has not yet resumed from this one.
  const unsigned parity = f.epoch[state == WARP_BARRIER]++ & 1;
  void* tag = state == BLOCK_BARRIER ? &b->block_tag[parity] : &b->warp_tag[b->current / kLanes][parity];
  __tsan_release(tag);
  __tsan_switch_to_fiber(b->main_tsan, __tsan_switch_to_fiber_no_sync);
#endif
  to_main(b, f);
#ifdef SHIM_TSAN
  __tsan_acquire(tag);
#endif
}

SHIM_QUIET static void entry() {
#ifdef SHIM_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &block->main_stack, &block->main_stack_bytes);
#endif
#ifdef SHIM_TSAN
  __tsan_acquire(&block->start_tag);
#endif
  block->body();
  Fiber& f = block->fibers[block->current];
  f.state = DONE;
#ifdef SHIM_TSAN
  __tsan_release(&block->end_tag);
  __tsan_switch_to_fiber(block->main_tsan, __tsan_switch_to_fiber_no_sync);
#endif
  to_main(block, f);
}

// Lets a warp go if all its lanes wait at the same warp barrier.
SHIM_QUIET static bool release_warp(Block& b, int begin) {
  for (int i = begin; i < begin + kLanes; ++i)
    if (b.fibers[i].state != WARP_BARRIER || b.fibers[i].site != b.fibers[begin].site) return false;
  for (int i = begin; i < begin + kLanes; ++i) b.fibers[i].state = RUN;
  return true;
}

SHIM_QUIET static const char* run_block(Block& b, int index, int threads, int shared_bytes, unsigned order_seed) {
  block = &b;
  b.fibers.resize(threads);
  std::memset(scratch, 0xff, sizeof scratch);  // NaN
#ifdef SHIM_ASAN
  ASAN_POISON_MEMORY_REGION((char*)scratch + shared_bytes, sizeof scratch - shared_bytes);
#endif
  std::vector<int> warps(threads / kLanes), lanes(kLanes);
  for (int i = 0; i < threads / kLanes; ++i) warps[i] = order_seed == 1 ? threads / kLanes - 1 - i : i;
  for (int i = 0; i < kLanes; ++i) lanes[i] = order_seed == 1 ? kLanes - 1 - i : i;
  std::mt19937 random(order_seed);
#ifdef SHIM_TSAN
  b.main_tsan = __tsan_get_current_fiber();
  __tsan_release(&b.start_tag);
#endif
  for (Fiber& f : b.fibers) {
    if (!f.stack) f.stack.reset(new char[kStackBytes]);
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = kStackBytes;
    f.context.uc_link = nullptr;
    makecontext(&f.context, entry, 0);
    f.state = RUN;
    f.started = false;
#ifdef SHIM_TSAN
    f.tsan = __tsan_create_fiber(0);
    f.epoch[0] = f.epoch[1] = 0;
#endif
  }
  const char* error = nullptr;
  for (;;) {
    if (order_seed > 1) std::shuffle(warps.begin(), warps.end(), random);
    for (int warp : warps) {  // each as far as it gets alone
      do {
        if (order_seed > 1) std::shuffle(lanes.begin(), lanes.end(), random);
        for (int lane : lanes) {
          const int i = warp * kLanes + lane;
          if (b.fibers[i].state != RUN) continue;
          b.current = i;
          threadIdx = {(unsigned)i, 0, 0};
          blockIdx = {(unsigned)index, 0, 0};
#ifdef SHIM_TSAN
          __tsan_switch_to_fiber(b.fibers[i].tsan, __tsan_switch_to_fiber_no_sync);
#endif
          to_fiber(b, b.fibers[i]);
        }
      } while (release_warp(b, warp * kLanes));
    }
    int done = 0, waiting = 0;
    void* site = nullptr;
    bool same_site = true;
    for (Fiber& f : b.fibers) {
      done += f.state == DONE;
      if (f.state != BLOCK_BARRIER) continue;
      if (waiting++ == 0) site = f.site;
      same_site &= f.site == site;
    }
    if (done == threads) break;
    if (waiting == threads && same_site) {
      for (Fiber& f : b.fibers) f.state = RUN;
      continue;
    }
    error = waiting + done < threads ? "deadlock at a warp barrier"
            : done ? "threads ended before a __syncthreads that others wait at" : "divergent __syncthreads";
    break;
  }
#ifdef SHIM_TSAN
  __tsan_acquire(&b.end_tag);
  for (Fiber& f : b.fibers) __tsan_destroy_fiber(f.tsan);
#endif
#ifdef SHIM_ASAN
  ASAN_UNPOISON_MEMORY_REGION(scratch, sizeof scratch);
#endif
  for (size_t i = shared_bytes; i < sizeof scratch && !error; ++i)
    if (((unsigned char*)scratch)[i] != 0xff) error = "shared memory written past the launch's size";
  return error;
}

// A grid of one-dimensional blocks, one after the other. Returns 0, or 1 with a message on stderr.
static int launch(int grid, int threads, int shared_bytes, unsigned order, std::function<void()> body) {
  auto b = std::make_unique<Block>();
  b->body = body;
  blockDim = {(unsigned)threads, 1, 1};
  gridDim = {(unsigned)grid, 1, 1};
  for (int i = 0; i < grid; ++i)
    if (const char* error = run_block(*b, i, threads, shared_bytes, order)) {
      std::fprintf(stderr, "cuda_host_shim: %s\n", error);
      return 1;
    }
  return 0;
}

template <auto Kernel> struct Host;
template <class... A, void (*Kernel)(A...)> struct Host<Kernel> {
  static int run(int grid, int threads, int shared_bytes, unsigned order, A... arguments) {
    return launch(grid, threads, shared_bytes, order, [=] { Kernel(arguments...); });
  }
};
}  // namespace shim

SHIM_QUIET static void __syncthreads() { shim::yield(shim::BLOCK_BARRIER, __builtin_return_address(0)); }
SHIM_QUIET static float shim_exchange(float value, int lane, void* site) {
  shim::Block* b = shim::block;
  const int me = b->current;
  b->fibers[me].slot = value;
  shim::yield(shim::WARP_BARRIER, site);
  const float other = b->fibers[me / shim::kLanes * shim::kLanes + lane].slot;
  shim::yield(shim::WARP_BARRIER, site);
  return other;
}
SHIM_QUIET static float __shfl_xor_sync(unsigned, float value, int distance) {
  return shim_exchange(value, shim::block->current % shim::kLanes ^ distance, __builtin_return_address(0));
}
SHIM_QUIET static float __shfl_sync(unsigned, float value, int lane) {
  return shim_exchange(value, lane % shim::kLanes, __builtin_return_address(0));
}
#define SHIM_EXPORT(KERNEL) extern "C" { void* host_##KERNEL = (void*)&shim::Host<&KERNEL>::run; }
