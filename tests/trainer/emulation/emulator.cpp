// The kernels as a shared library: `emulate` runs one by name. RUN_KERNELS is RUN(name) for each of them.
#include "cuda_on_cpu.h"
#include KERNELS

#include <tuple>
#include <utility>

float4 shared_memory[(emulation::SHARED + emulation::BEYOND) / sizeof(float4)];

namespace {

template <class... Given>
struct Call {
  void (*kernel)(Given...);
  std::tuple<Given...> given;
  static void run(void *self) {
    auto *call = static_cast<Call *>(self);
    std::apply(call->kernel, call->given);
  }
};

template <class... Given, std::size_t... Place>
const char *launch(void (*kernel)(Given...), int grid, int block, int shared, void **given,
                   std::index_sequence<Place...>) {
  Call<Given...> call{kernel, {*static_cast<Given *>(given[Place])...}};
  emulation::body = Call<Given...>::run, emulation::arguments = &call;
  blockDim.x = block, gridDim.x = grid;
  if (!emulation::stacks) emulation::stacks = new char[emulation::MOST * (std::size_t)emulation::STACK];
  if (block % emulation::WARP || block > emulation::MOST || shared > emulation::SHARED) return "cannot be launched";
  for (blockIdx.x = 0; blockIdx.x < unsigned(grid); ++blockIdx.x) {
    // All bits set are NaN. What lies beyond the block's own memory has to stay so.
    memset(shared_memory, 0xff, shared + emulation::BEYOND);
    if (!emulation::run_block()) return emulation::problem;
    const auto *bytes = reinterpret_cast<unsigned char *>(shared_memory);
    for (int i = shared; i < shared + emulation::BEYOND; ++i)
      if (bytes[i] != 0xff) return "shared memory was written beyond its size";
  }
  return nullptr;
}

template <class... Given>
const char *launch(void (*kernel)(Given...), int grid, int block, int shared, int count, void **given) {
  if (count != int(sizeof...(Given))) return "was given another number of arguments";
  return launch(kernel, grid, block, shared, given, std::index_sequence_for<Given...>());
}

}  // namespace

extern "C" const char *emulate(const char *name, int grid, int block, int shared, int count, void **given,
                               int reversed) {
  emulation::reversed = reversed;
#define RUN(kernel) \
  if (!strcmp(name, #kernel)) return launch(kernel, grid, block, shared, count, given);
  RUN_KERNELS
  return "is not a kernel";
}
