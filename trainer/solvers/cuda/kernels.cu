// Preconditioned conjugate gradients for the rows of a half iteration; trainer/solvers/cg.py has the method and
// its letters, docs/trainer.md the layout.
//
// A team of one or several warps steps a row. Its warps take the row's entries in turns of 32; each lane computes
// the weights of one of them. A group of GROUP lanes holds a vector of D floats, each lane QUADS times four
// neighbours, so that a warp reads LANES / GROUP factor rows at once, 16 bytes a lane (8 if HALF). All warps of a
// team keep the same vectors and take the same steps; only the sums over entries are divided among them, and added
// in a fixed order, so that results do not differ between runs.
//
// The host sets these macros:
//   D       floats in a factor row, padded with zeros to a multiple of 4
//   HALF    1 if the rows of the minor side are float16, 0 if float32
//   UNROLL  2, 4 or 8 factor rows that a group loads before it needs the first
//   TEAM    warps of a block that steps a row of medium length, or a short row by each of them
//   WIDE    warps of a block that steps a long row, or a piece of a longer one

#define LANES 32
#define EVERY_LANE 0xffffffffu

constexpr int GROUP = D <= 16 ? 4 : D <= 32 ? 8 : D <= 64 ? 16 : LANES;
constexpr int GROUPS = LANES / GROUP;
constexpr int QUADS = (D + 4 * GROUP - 1) / (4 * GROUP);
constexpr bool WHOLE = D == 4 * GROUP * QUADS;
constexpr int AHEAD = UNROLL < GROUP ? UNROLL : GROUP;
// Warps for which a multiprocessor's registers must suffice: enough loads are then under way.
constexpr int RESIDENT = QUADS == 1 ? 24 : QUADS == 2 ? 16 : 8;
// A squared residual that has fallen to this share is rounding; further steps would divide by zero.
constexpr float ROUNDING = 1e-13f;
constexpr float RELAXATION = 1.4f;
constexpr float NEAR = 0.1f;

#if HALF
typedef uint2 Quad;
typedef unsigned short Stored;
#else
typedef float4 Quad;
typedef float Stored;
#endif

// The part of a vector that a lane holds.
struct Vector {
  float4 at[QUADS];
};

struct Loaded {
  Quad at[QUADS];
};

// The problems of a side's rows, as `trainer.solvers.kernels.ShardProblem`, with the factors in the eigenbasis.
struct Problem {
  const long long *indptr;
  const int *indices;         // of the entries from first_entry on
  const float *values;        // likewise
  long long first_entry;
  const float *major_weight;
  const float *minor_weight;
  float value_weight;
  float w0;
  int binary;
  const float *regularization;
  const float *diagonal;      // (D), of w0 V'V
  const float *mean;          // (D), the diagonal of the mean of v v'
  const Stored *minor;        // (minors, D)
  float *major;               // (majors, D)
  float *losses;              // (majors)
};

#define PROBLEM                                                                                                      \
  const long long *indptr, const int *indices, const float *values, long long first_entry,                           \
      const float *major_weight, const float *minor_weight, float value_weight, float w0, int binary,                \
      const float *regularization, const float *diagonal, const float *mean, const Stored *minor, float *major,      \
      float *losses
#define GIVEN                                                                                                        \
  {                                                                                                                  \
    indptr, indices, values, first_entry, major_weight, minor_weight, value_weight, w0, binary, regularization,      \
        diagonal, mean, minor, major, losses                                                                         \
  }

// Some entries of a row.
struct Entries {
  const int *indices;
  const float *values;
  unsigned count;  // below 2^31, like the minor rows
  float major_weight;
};

// What `pass` sums besides the vector; all lanes have the same.
struct Sums {
  float loss;
  float weight;
};

// A row between two steps.
struct State {
  Vector r;      // b - A x
  Vector p;      // the next direction
  float rz;      // r' M^-1 r
  float least;   // the value of rz at which r is rounding
  float weight;  // the sum of e, if positive
  float loss;
  float length;  // how far the steps go, as a multiple
};

__device__ __forceinline__ int lane_of_warp() { return threadIdx.x % LANES; }
__device__ __forceinline__ int lane_of_group() { return threadIdx.x % GROUP; }
__device__ __forceinline__ int group_of_warp() { return threadIdx.x % LANES / GROUP; }
__device__ __forceinline__ int warp_of_block() { return threadIdx.x / LANES; }

// The place in a row of a lane's four neighbours.
__device__ __forceinline__ int place(int quad) { return 4 * (quad * GROUP + lane_of_group()); }
__device__ __forceinline__ bool inside(int quad) { return WHOLE || place(quad) < D; }

__device__ __forceinline__ float4 four(const float *row, int quad) {
  return *reinterpret_cast<const float4 *>(row + place(quad));
}

__device__ __forceinline__ Vector zeros() {
  Vector v;
#pragma unroll
  for (int q = 0; q < QUADS; ++q) v.at[q] = make_float4(0.f, 0.f, 0.f, 0.f);
  return v;
}

__device__ __forceinline__ Vector load(const float *row) {
  Vector v = zeros();
#pragma unroll
  for (int q = 0; q < QUADS; ++q)
    if (inside(q)) v.at[q] = four(row, q);
  return v;
}

__device__ __forceinline__ void store(float *row, const Vector &v) {
#pragma unroll
  for (int q = 0; q < QUADS; ++q)
    if (inside(q)) *reinterpret_cast<float4 *>(row + place(q)) = v.at[q];
}

#if HALF
#ifndef EMULATED
__device__ __forceinline__ float float_of_half(unsigned bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"((unsigned short)bits));
  return value;
}
#endif
__device__ __forceinline__ Quad nothing() { return make_uint2(0u, 0u); }
__device__ __forceinline__ float4 floats(const Quad &quad) {
  return make_float4(float_of_half(quad.x & 0xffffu), float_of_half(quad.x >> 16), float_of_half(quad.y & 0xffffu),
                     float_of_half(quad.y >> 16));
}
#else
__device__ __forceinline__ Quad nothing() { return make_float4(0.f, 0.f, 0.f, 0.f); }
__device__ __forceinline__ float4 floats(const Quad &quad) { return quad; }
#endif

__device__ __forceinline__ float dot(const float4 &a, const float4 &b) {
  return a.x * b.x + a.y * b.y + (a.z * b.z + a.w * b.w);
}

__device__ __forceinline__ void add(float4 &sum, float scale, const float4 &v) {
  sum.x += scale * v.x;
  sum.y += scale * v.y;
  sum.z += scale * v.z;
  sum.w += scale * v.w;
}

// Adds the values of groups of lanes that `least` and the masks up to `most` reach; all of them get the sum.
__device__ __forceinline__ float sum_of_lanes(float value, int least, int most) {
#pragma unroll
  for (int mask = least; mask <= most; mask *= 2) value += __shfl_xor_sync(EVERY_LANE, value, mask);
  return value;
}

__device__ __forceinline__ float sum_of_group(float value) { return sum_of_lanes(value, 1, GROUP / 2); }
__device__ __forceinline__ float sum_of_warp(float value) { return sum_of_lanes(value, 1, LANES / 2); }

// Adds the shares of a group's lanes in AHEAD sums at once: while the lanes of a sum halve, so do the sums that a
// lane keeps. Lane l returns sum number l / (GROUP / AHEAD).
__device__ __forceinline__ float sums_of_group(float (&shares)[AHEAD]) {
  int mask = GROUP / 2;
#pragma unroll
  for (int kept = AHEAD / 2; kept > 0; kept /= 2) {
    const bool upper = (lane_of_group() & mask) != 0;
#pragma unroll
    for (int i = 0; i < kept; ++i) {
      const float mine = upper ? shares[i + kept] : shares[i];
      const float other = upper ? shares[i] : shares[i + kept];
      shares[i] = mine + __shfl_xor_sync(EVERY_LANE, other, mask);
    }
    mask /= 2;
  }
  return sum_of_lanes(shares[0], 1, GROUP / AHEAD / 2);
}

// Adds this warp's share, among WARPS warps, of sums over the entries k, with s = v . x:
//   START: total += sum ((w0 + e) t - e s) v,  loss = sum (w0 + e) t^2 + (e s - 2 (w0 + e) t) s,  weight = sum e
//   else:  total += sum e s v,                 loss = sum e s^2
// Without ADDS, total stays as it is. The first `cached` factor rows are kept in `tile`: a lane reads there only
// what it has written itself, so that nobody has to wait.
template <int WARPS, bool START, bool ADDS>
__device__ __forceinline__ Sums pass(const Problem &given, const Entries &entries, const Vector &x, Vector &total,
                                     Stored *tile, unsigned cached) {
  constexpr int STRIDE = WARPS * LANES;
  constexpr int SHARERS = GROUP / AHEAD;
  const int lane = lane_of_warp(), group = group_of_warp();
  const unsigned first = WARPS == 1 ? 0 : LANES * warp_of_block();
  Sums sums = {0.f, 0.f};
  float loss = 0.f;
  int index = 0;
  float value = 0.f;
  if (first + lane < entries.count) index = entries.indices[first + lane], value = entries.values[first + lane];
#pragma unroll 1
  for (unsigned base = first; base < entries.count; base += STRIDE) {
    float excess = 0.f, weighted = 0.f;
    if (base + lane < entries.count) {
      excess = entries.major_weight * given.minor_weight[index] + given.value_weight * fabsf(value);
      const float target = given.binary ? (value > 0.f ? 1.f : 0.f) : value;
      weighted = (given.w0 + excess) * target;
      if (START) sums.loss += weighted * target, sums.weight += excess;
    }
    const int minor = index;
    const unsigned next = base + STRIDE + lane;
    if (next < entries.count) index = entries.indices[next], value = entries.values[next];
    const int left = entries.count - base < LANES ? entries.count - base : LANES;
    // Unrolling would only need more registers: AHEAD says how many loads are under way.
#pragma unroll 1
    for (int turn = 0; turn * GROUPS < left; turn += AHEAD) {
      Loaded rows[AHEAD];
#pragma unroll
      for (int u = 0; u < AHEAD; ++u) {
        const int number = (turn + u) * GROUPS + group;
        // 64 bits, because a side may have more than 2^31 factors.
        const long long row = __shfl_sync(EVERY_LANE, minor, number);
        const bool kept = !START && base + number < cached;
        const Stored *source = kept ? tile + (base + number) * D : given.minor + row * D;
#pragma unroll
        for (int q = 0; q < QUADS; ++q) {
          rows[u].at[q] = nothing();
          if (number < left && inside(q)) rows[u].at[q] = *reinterpret_cast<const Quad *>(source + place(q));
        }
      }
      // After all loads are under way, because a store has to wait for its own.
      if (START && base + turn * GROUPS < cached) {
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
          const int number = (turn + u) * GROUPS + group;
#pragma unroll
          for (int q = 0; q < QUADS; ++q)
            if (number < left && base + number < cached && inside(q))
              *reinterpret_cast<Quad *>(tile + (base + number) * D + place(q)) = rows[u].at[q];
        }
      }
      float shares[AHEAD];
#pragma unroll
      for (int u = 0; u < AHEAD; ++u) {
        shares[u] = 0.f;
#pragma unroll
        for (int q = 0; q < QUADS; ++q) shares[u] += dot(floats(rows[u].at[q]), x.at[q]);
      }
      const float s = sums_of_group(shares);
      const int number = (turn + lane_of_group() / SHARERS) * GROUPS + group;
      const float e = __shfl_sync(EVERY_LANE, excess, number);
      float coefficient = e * s;
      if (START) {
        const float wt = __shfl_sync(EVERY_LANE, weighted, number);
        loss += (coefficient - 2.f * wt) * s;
        coefficient = wt - coefficient;
      } else {
        loss += coefficient * s;
      }
      if (ADDS) {
#pragma unroll
        for (int u = 0; u < AHEAD; ++u) {
          const float scale = __shfl_sync(EVERY_LANE, coefficient, group * GROUP + u * SHARERS);
#pragma unroll
          for (int q = 0; q < QUADS; ++q) add(total.at[q], scale, floats(rows[u].at[q]));
        }
      }
    }
  }
  sums.loss = sum_of_warp(sums.loss + loss * (1.f / SHARERS));
  if (START) sums.weight = sum_of_warp(sums.weight);
  return sums;
}

// Adds what the groups of a warp and the WARPS warps of a team have summed; all of them get the totals.
// `room` holds WARPS vectors of D floats and WARPS pairs of floats.
template <int WARPS>
__device__ __forceinline__ void merge(Vector &total, Sums &sums, float *room) {
#pragma unroll
  for (int q = 0; q < QUADS; ++q) {
    total.at[q].x = sum_of_lanes(total.at[q].x, GROUP, LANES / 2);
    total.at[q].y = sum_of_lanes(total.at[q].y, GROUP, LANES / 2);
    total.at[q].z = sum_of_lanes(total.at[q].z, GROUP, LANES / 2);
    total.at[q].w = sum_of_lanes(total.at[q].w, GROUP, LANES / 2);
  }
  if (WARPS == 1) return;
  float2 *pairs = reinterpret_cast<float2 *>(room + WARPS * D);
  // Until here, others may read what an earlier merge has left.
  __syncthreads();
  if (group_of_warp() == 0) store(room + warp_of_block() * D, total);
  if (lane_of_warp() == 0) pairs[warp_of_block()] = make_float2(sums.loss, sums.weight);
  __syncthreads();
  total = zeros();
  sums.loss = sums.weight = 0.f;
  for (int warp = 0; warp < WARPS; ++warp) {
    const Vector other = load(room + warp * D);
#pragma unroll
    for (int q = 0; q < QUADS; ++q) add(total.at[q], 1.f, other.at[q]);
    sums.loss += pairs[warp].x, sums.weight += pairs[warp].y;
  }
}

// Adds scale (w0 V'V + l I) v to total; returns v' (w0 V'V + l I) v.
__device__ __forceinline__ float add_shared(Vector &total, float scale, const Vector &v, const Problem &given,
                                            float lambda) {
  float square = 0.f;
#pragma unroll
  for (int q = 0; q < QUADS; ++q) {
    if (!inside(q)) continue;
    const float4 w = four(given.diagonal, q), f = v.at[q];
    const float4 product =
        make_float4((w.x + lambda) * f.x, (w.y + lambda) * f.y, (w.z + lambda) * f.z, (w.w + lambda) * f.w);
    square += dot(product, f);
    add(total.at[q], scale, product);
  }
  return sum_of_group(square);
}

// 0 where a direction has no weight, as in the padding.
__device__ __forceinline__ float inverse(float diagonal) { return diagonal > 0.f ? 1.f / diagonal : 0.f; }

// Returns z = M^-1 r, and sets rz = r'z.
__device__ __forceinline__ Vector preconditioned(const Vector &r, float weight, float &rz, const Problem &given,
                                                 float lambda) {
  Vector z = zeros();
  float square = 0.f;
#pragma unroll
  for (int q = 0; q < QUADS; ++q) {
    if (!inside(q)) continue;
    const float4 w = four(given.diagonal, q), m = four(given.mean, q), f = r.at[q];
    z.at[q] = make_float4(f.x * inverse(w.x + lambda + weight * m.x), f.y * inverse(w.y + lambda + weight * m.y),
                          f.z * inverse(w.z + lambda + weight * m.z), f.w * inverse(w.w + lambda + weight * m.w));
    square += dot(z.at[q], f);
  }
  rz = sum_of_group(square);
  return z;
}

// Returns x'M x.
__device__ __forceinline__ float squared(const Vector &x, float weight, const Problem &given, float lambda) {
  float square = 0.f;
#pragma unroll
  for (int q = 0; q < QUADS; ++q) {
    if (!inside(q)) continue;
    const float4 w = four(given.diagonal, q), m = four(given.mean, q), f = x.at[q];
    square += dot(make_float4(f.x * (w.x + lambda + weight * m.x), f.y * (w.y + lambda + weight * m.y),
                              f.z * (w.z + lambda + weight * m.z), f.w * (w.w + lambda + weight * m.w)),
                  f);
  }
  return sum_of_group(square);
}

// Begins with the factors x, given what `pass` with START has summed.
__device__ __forceinline__ State begun(const Vector &x, const Vector &total, const Sums &sums, const Problem &given,
                                       float lambda) {
  State state;
  state.r = total;
  state.loss = sums.loss + add_shared(state.r, -1.f, x, given, lambda);
  state.weight = fmaxf(sums.weight, 0.f);
  state.p = preconditioned(state.r, state.weight, state.rz, given, lambda);
  state.least = ROUNDING * state.rz;
  state.length = state.rz <= NEAR * squared(x, state.weight, given, lambda) ? RELAXATION : 1.f;
  return state;
}

// Takes a step, given what `pass` has summed for p; a group that `writes` updates the factors.
__device__ __forceinline__ void step(State &state, Vector &total, const Sums &sums, const Problem &given,
                                     float lambda, float *factors, bool writes) {
  const float pq = sums.loss + add_shared(total, 1.f, state.p, given, lambda);
  const float alpha = state.rz / pq;
  state.loss -= state.length * (2.f - state.length) * alpha * state.rz;
  if (writes) {
    Vector x = load(factors);
#pragma unroll
    for (int q = 0; q < QUADS; ++q) add(x.at[q], state.length * alpha, state.p.at[q]);
    store(factors, x);
  }
#pragma unroll
  for (int q = 0; q < QUADS; ++q) add(state.r.at[q], -alpha, total.at[q]);
  const float before = state.rz;
  const Vector z = preconditioned(state.r, state.weight, state.rz, given, lambda);
#pragma unroll
  for (int q = 0; q < QUADS; ++q) {
    const float4 p = state.p.at[q];
    state.p.at[q] = z.at[q];
    add(state.p.at[q], state.rz / before, p);
  }
}

__device__ __forceinline__ Entries entries_of(const Problem &given, int row, unsigned begin, unsigned most) {
  const long long start = given.indptr[row] + begin, at = start - given.first_entry;
  const unsigned left = given.indptr[row + 1] - start;
  return {given.indices + at, given.values + at, left < most ? left : most, given.major_weight[row]};
}

// Steps a row by a team of WARPS warps.
template <int WARPS>
__device__ __forceinline__ void sweep(const Problem &given, int row, int steps, int cached, float *room) {
  const Entries entries = entries_of(given, row, 0, ~0u);
  const float lambda = given.regularization[row];
  float *factors = given.major + row * (long long)D;
  const bool writes = group_of_warp() == 0 && (WARPS == 1 || warp_of_block() == 0);
  const bool reports = writes && lane_of_group() == 0;
  if (entries.count == 0) {
    if (writes) store(factors, zeros());
    if (reports) given.losses[row] = 0.f;
    return;
  }
  Stored *tile = reinterpret_cast<Stored *>(room + (WARPS == 1 ? 0 : WARPS * (D + 2)));
  const Vector x = load(factors);
  Vector total = zeros();
  Sums sums = pass<WARPS, true, true>(given, entries, x, total, tile, cached);
  merge<WARPS>(total, sums, room);
  State state = begun(x, total, sums, given, lambda);
#pragma unroll 1
  for (int number = 1; number <= steps && state.rz > state.least; ++number) {
    total = zeros();
    // The last step needs its length but no residual after it.
    if (number < steps)
      sums = pass<WARPS, false, true>(given, entries, state.p, total, tile, cached);
    else
      sums = pass<WARPS, false, false>(given, entries, state.p, total, tile, cached);
    merge<WARPS>(total, sums, room);
    step(state, total, sums, given, lambda, factors, writes);
  }
  if (reports) given.losses[row] = state.loss;
}

extern __shared__ float4 shared_memory[];

// Steps the `count` rows that `order` names, one by each warp. One block fewer leaves it registers for all that it
// keeps; on some GPUs it would spill otherwise.
extern "C" __global__ void __launch_bounds__(LANES *TEAM, RESIDENT / TEAM - 1)
    step_by_warps(const int *order, int count, int steps, int cached, PROBLEM) {
  const Problem given = GIVEN;
  const int at = blockIdx.x * TEAM + warp_of_block();
  if (at < count) sweep<1>(given, order[at], steps, 0, nullptr);
}

// Steps a row by each block of TEAM warps, and keeps its first `cached` factor rows.
extern "C" __global__ void __launch_bounds__(LANES *TEAM, RESIDENT / TEAM)
    step_by_teams(const int *order, int count, int steps, int cached, PROBLEM) {
  const Problem given = GIVEN;
  sweep<TEAM>(given, order[blockIdx.x], steps, cached, reinterpret_cast<float *>(shared_memory));
}

// Steps a row by each block of WIDE warps.
extern "C" __global__ void __launch_bounds__(LANES *WIDE, RESIDENT / WIDE)
    step_by_blocks(const int *order, int count, int steps, int cached, PROBLEM) {
  const Problem given = GIVEN;
  sweep<WIDE>(given, order[blockIdx.x], steps, 0, reinterpret_cast<float *>(shared_memory));
}

// The longest rows are split: blocks sum over pieces of their entries, `gather_pieces`, and a block for each row
// adds the pieces and takes the step, `merge_pieces`. The two take turns, for START (number 0) and for each step.
//
// Arrays of the rows: `order`; `first_piece` (rows + 1); `vectors` (2, rows, D), r and p; `scalars` (rows, 5), the
// others of State. Of the pieces: `owners`, the place in `order` of the row; `sums` (pieces, 2); `totals` (pieces, D).

extern "C" __global__ void __launch_bounds__(LANES *WIDE, RESIDENT / WIDE)
    gather_pieces(const int *order, int rows, int number, int steps, const int *first_piece, const int *owners,
                  int length, float *vectors, float *scalars, float *totals, float *sums, PROBLEM) {
  const Problem given = GIVEN;
  const int piece = blockIdx.x, owner = owners[piece], row = order[owner];
  const unsigned begin = (piece - first_piece[owner]) * (unsigned)length;
  const Entries entries = entries_of(given, row, begin, length);
  const Vector x = load(number == 0 ? given.major + row * (long long)D : vectors + (rows + owner) * (long long)D);
  Vector total = zeros();
  Sums found;
  if (number == 0)
    found = pass<WIDE, true, true>(given, entries, x, total, nullptr, 0);
  else if (number < steps)
    found = pass<WIDE, false, true>(given, entries, x, total, nullptr, 0);
  else
    found = pass<WIDE, false, false>(given, entries, x, total, nullptr, 0);
  merge<WIDE>(total, found, reinterpret_cast<float *>(shared_memory));
  if (warp_of_block() > 0 || group_of_warp() > 0) return;
  store(totals + piece * (long long)D, total);
  if (lane_of_group() == 0) sums[2 * piece] = found.loss, sums[2 * piece + 1] = found.weight;
}

extern "C" __global__ void __launch_bounds__(LANES *WIDE, RESIDENT / WIDE)
    merge_pieces(const int *order, int rows, int number, int steps, const int *first_piece, const int *owners,
                 int length, float *vectors, float *scalars, float *totals, float *sums, PROBLEM) {
  const Problem given = GIVEN;
  const int owner = blockIdx.x, row = order[owner];
  const float lambda = given.regularization[row];
  float *factors = given.major + row * (long long)D;
  float *r = vectors + owner * (long long)D, *p = vectors + (rows + owner) * (long long)D;
  Vector total = zeros();
  Sums found = {0.f, 0.f};
  for (int piece = first_piece[owner] + warp_of_block(); piece < first_piece[owner + 1]; piece += WIDE) {
    // One group adds, because merging adds the groups.
    if (group_of_warp() == 0) {
      const Vector part = load(totals + piece * (long long)D);
#pragma unroll
      for (int q = 0; q < QUADS; ++q) add(total.at[q], 1.f, part.at[q]);
    }
    found.loss += sums[2 * piece], found.weight += sums[2 * piece + 1];
  }
  merge<WIDE>(total, found, reinterpret_cast<float *>(shared_memory));
  if (warp_of_block() > 0) return;
  State state;
  const bool writes = group_of_warp() == 0;
  if (number == 0) {
    state = begun(load(factors), total, found, given, lambda);
  } else {
    const float *kept = scalars + 5 * owner;
    state = {load(r), load(p), kept[0], kept[1], kept[2], kept[3], kept[4]};
    if (state.rz > state.least) step(state, total, found, given, lambda, factors, writes);
  }
  if (!writes) return;
  store(r, state.r);
  store(p, state.p);
  if (lane_of_group() > 0) return;
  float *kept = scalars + 5 * owner;
  kept[0] = state.rz, kept[1] = state.least, kept[2] = state.weight, kept[3] = state.loss, kept[4] = state.length;
  given.losses[row] = state.loss;
}
