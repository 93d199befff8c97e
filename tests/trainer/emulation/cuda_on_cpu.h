// Compiles CUDA C++ for the CPU, so that tests run the very kernels: each thread of a block is a fiber, and blocks
// run one after the other.
//
// A fiber runs until it shuffles, waits for its block or ends. Lanes of a warp that do not do the same are an error,
// as are threads that end while others of the block wait. Warps and lanes run in either order, and the shared memory
// of a block begins as NaN, so that results that depend on a barrier which is missing differ or are not finite.

#pragma once
#define EMULATED 1
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ucontext.h>

#define __global__
#define __device__
#define __forceinline__ inline
#define __shared__
#define __launch_bounds__(...)

struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }

inline float float_of_half(unsigned bits) {
  const unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
  const float size = exponent == 31 ? (fraction ? NAN : INFINITY)
                     : exponent     ? std::ldexp(1024.f + fraction, int(exponent) - 25)
                                    : std::ldexp(float(fraction), -24);
  return bits & 0x8000 ? -size : size;
}

inline unsigned __float_as_uint(float value) {
  unsigned bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float __uint_as_float(unsigned bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// One thread runs at a time.
inline int atomicAdd(int *address, int value) {
  const int before = *address;
  *address += value;
  return before;
}

struct Dimension { unsigned x; };
Dimension threadIdx, blockIdx, blockDim, gridDim;

namespace emulation {

constexpr int WARP = 32, MOST = 1024, STACK = 128 << 10, SHARED = 96 << 10, BEYOND = 4 << 10;
enum Status { READY, SHUFFLES, WAITS, ENDED };

// Where a fiber continues; GCC's own jumps are several times faster than those of the C library.
typedef void *Place[5];

struct Fiber {
  Place place;
  Status status;
  int site;
  unsigned turns;
};

Fiber fibers[MOST];
float slots[MOST / WARP][2][WARP];
char *stacks = nullptr;
Place scheduler;
ucontext_t starting;
void (*body)(void *);
void *arguments;
char problem[200];
bool reversed;

__attribute__((noinline)) void jump(Place &place) { __builtin_longjmp(place, 1); }

void start(unsigned thread);

// Goes on with the next lane, after the last with the scheduler.
inline void pass_on() {
  const unsigned lane = threadIdx.x % WARP;
  if (lane == (reversed ? 0 : WARP - 1)) jump(scheduler);
  threadIdx.x += reversed ? -1 : 1;
  Fiber &next = fibers[threadIdx.x];
  if (!next.turns) start(threadIdx.x);
  if (next.status == ENDED) {
    snprintf(problem, sizeof problem, "lane %u has ended before others", threadIdx.x);
    jump(scheduler);
  }
  jump(next.place);
}

__attribute__((noinline)) void yield(Status status, int site) {
  Fiber &fiber = fibers[threadIdx.x];
  fiber.status = status, fiber.site = site;
  if (!__builtin_setjmp(fiber.place)) pass_on();
}

inline void enter() {
  body(arguments);
  fibers[threadIdx.x].status = ENDED;
  pass_on();
}

void start(unsigned thread) {
  fibers[thread].turns = 1;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = stacks + thread * (size_t)STACK;
  context.uc_stack.ss_size = STACK;
  context.uc_link = nullptr;
  makecontext(&context, enter, 0);
  setcontext(&context);
}

// Runs all lanes of a warp up to their next shuffle, barrier or end.
__attribute__((noinline)) void resume(int warp) {
  threadIdx.x = warp * WARP + (reversed ? WARP - 1 : 0);
  Fiber &first = fibers[threadIdx.x];
  if (__builtin_setjmp(scheduler)) return;
  if (!first.turns) start(threadIdx.x);
  jump(first.place);
}

inline float shuffle(float value, int from, int site) {
  const int warp = threadIdx.x / WARP, turn = fibers[threadIdx.x].turns++ % 2;
  slots[warp][turn][threadIdx.x % WARP] = value;
  yield(SHUFFLES, site);
  // Every lane has left its value by now.
  return slots[warp][turn][from % WARP];
}

// Runs a warp until it waits or ends; returns whether its lanes agree.
inline bool run_warp(int warp) {
  for (;;) {
    if (fibers[warp * WARP].status != ENDED) resume(warp);
    if (*problem) return false;
    const Fiber &one = fibers[warp * WARP];
    for (int i = 1; i < WARP; ++i) {
      const Fiber &other = fibers[warp * WARP + i];
      if (other.status != one.status || (one.status != ENDED && other.site != one.site)) {
        snprintf(problem, sizeof problem, "lanes 0 and %d of warp %d diverge, at lines %d and %d", i, warp, one.site,
                 other.site);
        return false;
      }
    }
    if (one.status != SHUFFLES) return true;
  }
}

inline bool run_block() {
  *problem = 0;
  const int warps = blockDim.x / WARP;
  for (unsigned i = 0; i < blockDim.x; ++i) fibers[i].status = READY, fibers[i].turns = 0;
  for (;;) {
    for (int i = 0; i < warps; ++i)
      if (!run_warp(reversed ? warps - 1 - i : i)) return false;
    for (int warp = 1; warp < warps; ++warp)
      if (fibers[warp * WARP].status != fibers[0].status ||
          (fibers[0].status != ENDED && fibers[warp * WARP].site != fibers[0].site)) {
        snprintf(problem, sizeof problem, "warps 0 and %d wait at lines %d and %d", warp, fibers[0].site,
                 fibers[warp * WARP].site);
        return false;
      }
    if (fibers[0].status == ENDED) return true;
  }
}

}  // namespace emulation

inline float shuffled(float value, int from, int site) { return emulation::shuffle(value, from, site); }
inline int shuffled(int value, int from, int site) {
  float bits;
  memcpy(&bits, &value, 4);
  bits = emulation::shuffle(bits, from, site);
  memcpy(&value, &bits, 4);
  return value;
}

#define __shfl_sync(mask, value, lane) shuffled(value, lane, __LINE__)
#define __shfl_xor_sync(mask, value, lanes) shuffled(value, int(threadIdx.x % 32) ^ (lanes), __LINE__)
#define __syncwarp() emulation::yield(emulation::SHUFFLES, __LINE__)
#define __syncthreads() emulation::yield(emulation::WAITS, __LINE__)
