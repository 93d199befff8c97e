// The best items of each query, from the query's scores; docs/trainer.md has the layout.
//
// A block of THREADS threads reads the scores of a query once, in vectors of four. What exceeds the worst of the k
// best so far is put behind them in shared memory; when that is half full, it is sorted, and the k best are kept.
// A score and its item are one key of 64 bits, and no two are equal: the result does not depend on the order in which
// threads find them.
//
// The host sets these macros:
//   THREADS  threads of a block, a multiple of 32
//   UNROLL   vectors of scores that a thread loads at once
//   SLOTS    keys that are sorted at once: a power of two, at least 2 * THREADS and 4 k

#define LANES 32

typedef unsigned long long Key;

constexpr int CHUNK = 4 * THREADS * UNROLL;
// What an item with the score -inf has at most: it is never listed, like one whose score is not a number.
constexpr Key LEAST = 0x007fffffffffffffull;

extern __shared__ float4 shared_memory[];

// Larger for a larger score and, among equal scores, for a smaller item; 0 for what is never listed.
__device__ __forceinline__ Key key_of(float score, int item) {
  unsigned bits = __float_as_uint(score);
  if (bits == 0x80000000u) bits = 0u;  // -0 equals 0
  bits ^= bits >> 31 ? 0xffffffffu : 0x80000000u;
  const Key key = (Key)bits << 32 | ~(unsigned)item;
  return score == score && key > LEAST ? key : 0;
}

__device__ __forceinline__ float score_of(Key key) {
  const unsigned bits = key >> 32;
  return __uint_as_float(bits >> 31 ? bits ^ 0x80000000u : ~bits);
}

__device__ __forceinline__ int item_of(Key key) { return ~(unsigned)key; }

// Sorts the block's keys, the largest first, by a bitonic network. Passes over a distance of at most LANES stay within
// what a warp has compared itself.
__device__ __forceinline__ void sort(Key *keys) {
  __syncthreads();
#pragma unroll 1
  for (int size = 2; size <= SLOTS; size *= 2) {
#pragma unroll 1
    for (int distance = size / 2; distance > 0; distance /= 2) {
#pragma unroll 2
      for (int pair = threadIdx.x; pair < SLOTS / 2; pair += THREADS) {
        const int within = pair & (distance - 1);
        const int i = 2 * (pair - within) + within;
        const Key one = keys[i], other = keys[i + distance];
        if ((one < other) == ((i & size) == 0)) keys[i] = other, keys[i + distance] = one;
      }
      const int next = distance > 1 ? distance / 2 : size;
      if (distance > LANES || next > LANES)
        __syncthreads();
      else
        __syncwarp();
    }
  }
  __syncthreads();
}

// Keeps the k best keys, in order, and returns the worst of them, at least LEAST. The slots behind them are free; what
// is left in them is worse, so that sorting it again does no harm.
__device__ __forceinline__ Key settle(Key *keys, int *count, int k) {
  sort(keys);
  if (threadIdx.x == 0) *count = k;
  __syncthreads();
  return keys[k - 1] > LEAST ? keys[k - 1] : LEAST;
}

// Lists the best items of query number blockIdx.x.
//   scores         (queries, stride), of which the masked ones are overwritten with -inf; stride is a multiple of 4
//   masked_indptr  (queries + 1), offsets into `masked`
//   masked         the items that each query must not get
//   indices, best  (queries, k), the items and their scores, -1 and -inf where there are no more
extern "C" __global__ void __launch_bounds__(THREADS)
    select_best(float *scores, int items, int stride, const long long *masked_indptr, const int *masked, int k,
                int *indices, float *best) {
  Key *keys = reinterpret_cast<Key *>(shared_memory);
  int *count = reinterpret_cast<int *>(keys + SLOTS);
  const float nothing = score_of(LEAST);
  float *row = scores + (long long)blockIdx.x * stride;
  for (long long e = masked_indptr[blockIdx.x] + threadIdx.x; e < masked_indptr[blockIdx.x + 1]; e += THREADS)
    row[masked[e]] = nothing;
  __syncthreads();
  for (int i = threadIdx.x; i < SLOTS; i += THREADS) keys[i] = i < items ? key_of(row[i], i) : 0;
  Key worst = settle(keys, count, k);
  int taken = k;
#pragma unroll 1
  for (int base = SLOTS; base < items; base += CHUNK) {
    float4 loaded[UNROLL];
#pragma unroll
    for (int u = 0; u < UNROLL; ++u) {
      const int place = base + 4 * (u * THREADS + threadIdx.x);
      loaded[u] = make_float4(nothing, nothing, nothing, nothing);
      if (place < stride) loaded[u] = *reinterpret_cast<const float4 *>(row + place);
    }
    // The vectors' scores that have been put into a slot, a bit for each.
    unsigned put = 0;
    for (;;) {
      const float least = score_of(worst);
      bool full = false;
#pragma unroll
      for (int u = 0; u < UNROLL; ++u) {
        const float four[] = {loaded[u].x, loaded[u].y, loaded[u].z, loaded[u].w};
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          const unsigned bit = 1u << (4 * u + c);
          if (!(four[c] >= least) || full || (put & bit)) continue;
          const int item = base + 4 * (u * THREADS + threadIdx.x) + c;
          const Key key = key_of(four[c], item);
          if (key <= worst || item >= items) continue;
          const int slot = atomicAdd(count, 1);
          full = slot >= SLOTS;
          if (!full) keys[slot] = key, put |= bit;
        }
      }
      __syncthreads();
      taken = *count;
      // Before anyone adds to it again.
      __syncthreads();
      if (taken <= SLOTS / 2) break;
      worst = settle(keys, count, k);
    }
  }
  if (taken > k) settle(keys, count, k);
  for (int i = threadIdx.x; i < k; i += THREADS) {
    const Key key = keys[i];
    indices[(long long)blockIdx.x * k + i] = key ? item_of(key) : -1;
    best[(long long)blockIdx.x * k + i] = key ? score_of(key) : nothing;
  }
}
