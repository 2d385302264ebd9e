// Runs a CUDA kernel on the CPU: one fiber per CUDA thread, so barriers and shuffles are real.
//
// Between barriers the fibers run one at a time in a chosen order (0 forward, 1 reverse, more: shuffled with that seed),
// which turns many a missing barrier into a wrong answer. Shared memory is poisoned with NaN, and a write past the
// launch's size is reported. Under -fsanitize=thread every fiber is a fiber of ThreadSanitizer and only the barriers
// below order memory, so any other data race between CUDA threads is reported with both stacks.
#pragma once
#define CUDA_HOST_SHIM 1
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
#define SHIM_QUIET __attribute__((noinline, no_sanitize("thread")))  // the scheduler itself is not under test

// The CUDA names that the kernels use.
#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ thread_local
struct Index3 { unsigned x, y, z; };
static thread_local Index3 threadIdx, blockIdx, blockDim, gridDim;
static inline uint32_t __float_as_uint(float f) { uint32_t u; std::memcpy(&u, &f, 4); return u; }
static inline unsigned short half_bits_rn(float f) { _Float16 h = (_Float16)f; unsigned short u; std::memcpy(&u, &h, 2); return u; }

constexpr int kSharedBytes = 232448;  // 227 KiB, the most any architecture gives a block
alignas(128) thread_local float scratch[kSharedBytes / 4];  // the kernels' `extern __shared__ float scratch[]`

namespace shim {
enum State { RUN, BLOCK_BARRIER, WARP_BARRIER, DONE };
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  State state;
  void* site;  // which barrier it waits at
  float slot;  // what it offers in a shuffle
  void* tsan = nullptr;
  unsigned epoch[2];
};
constexpr size_t kStackBytes = 128 << 10;
constexpr int kLanes = 32;
struct Block {
  std::vector<Fiber> fibers;
  ucontext_t main;
  int current = -1;
  std::function<void()> body;
  void* main_tsan = nullptr;
  char start_tag, end_tag, block_tag[2], warp_tag[32][2];
};
static thread_local Block* block;

SHIM_QUIET static void yield(State state, void* site) {
  Block* b = block;
  Fiber& f = b->fibers[b->current];
  f.state = state;
  f.site = site;
#ifdef SHIM_TSAN
  // Two alternating tags per barrier: a fiber that already reached the next barrier must not count as ordered before one
  // that has not yet resumed from this one.
  const unsigned parity = f.epoch[state == WARP_BARRIER]++ & 1;
  void* tag = state == BLOCK_BARRIER ? &b->block_tag[parity] : &b->warp_tag[b->current / kLanes][parity];
  __tsan_release(tag);
  __tsan_switch_to_fiber(b->main_tsan, __tsan_switch_to_fiber_no_sync);
#endif
  swapcontext(&f.context, &b->main);
#ifdef SHIM_TSAN
  __tsan_acquire(tag);
#endif
}

SHIM_QUIET static void entry() {
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
  swapcontext(&f.context, &block->main);
}

// Lets every warp go whose lanes all wait at the same warp barrier.
SHIM_QUIET static bool release_warps(Block& b, int threads) {
  bool any = false;
  for (int begin = 0; begin < threads; begin += kLanes) {
    const int end = std::min(threads, begin + kLanes);
    bool all = true;
    for (int i = begin; i < end; ++i) all &= b.fibers[i].state == WARP_BARRIER && b.fibers[i].site == b.fibers[begin].site;
    if (!all) continue;
    for (int i = begin; i < end; ++i) b.fibers[i].state = RUN;
    any = true;
  }
  return any;
}

SHIM_QUIET static const char* run_block(Block& b, int index, int threads, int shared_bytes, unsigned order_seed) {
  block = &b;
  b.fibers.resize(threads);
  std::memset(scratch, 0xff, sizeof scratch);  // NaN
  std::vector<int> order(threads);
  for (int i = 0; i < threads; ++i) order[i] = order_seed == 1 ? threads - 1 - i : i;
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
#ifdef SHIM_TSAN
    f.tsan = __tsan_create_fiber(0);
    f.epoch[0] = f.epoch[1] = 0;
#endif
  }
  const char* error = nullptr;
  for (;;) {
    if (order_seed > 1) std::shuffle(order.begin(), order.end(), random);
    for (int i : order) {
      if (b.fibers[i].state != RUN) continue;
      b.current = i;
      threadIdx = {(unsigned)i, 0, 0};
      blockIdx = {(unsigned)index, 0, 0};
#ifdef SHIM_TSAN
      __tsan_switch_to_fiber(b.fibers[i].tsan, __tsan_switch_to_fiber_no_sync);
#endif
      swapcontext(&b.main, &b.fibers[i].context);
    }
    if (release_warps(b, threads)) continue;
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
SHIM_QUIET static float __shfl_xor_sync(unsigned, float value, int distance) {
  void* site = __builtin_return_address(0);
  shim::Block* b = shim::block;
  const int me = b->current;
  b->fibers[me].slot = value;
  shim::yield(shim::WARP_BARRIER, site);
  const float other = b->fibers[me ^ distance].slot;
  shim::yield(shim::WARP_BARRIER, site);
  return other;
}
#define SHIM_EXPORT(KERNEL) extern "C" { void* host_##KERNEL = (void*)&shim::Host<&KERNEL>::run; }
