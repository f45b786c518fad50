// What the kernels share: types, checks, rows cut into chunks, calls of other operators.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

namespace {

using at::Tensor;
using OptTensor = std::optional<Tensor>;

template <typename T>
struct Acc {
  using type = float;
};
template <>
struct Acc<double> {
  using type = double;
};

// Rounds `value` to the type of `to`. To bf16 in integers (nearest, ties to even, one NaN), which
// compilers vectorise: with at::BFloat16's own conversion a norm takes five times as long.
template <typename T, typename A>
void store(T& to, A value) {
  if constexpr (std::is_same_v<T, at::BFloat16>) {
    const uint32_t bits = std::bit_cast<uint32_t>(value), odd = bits >> 16 & 1;
    to.x = (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (bits + 0x7fff + odd) >> 16;
  } else {
    to = static_cast<T>(value);
  }
}

constexpr int64_t kChunk = 32768;  // inputs worth a thread's while

int64_t chunk_count(int64_t rows, int64_t n) {
  return std::max<int64_t>(1, std::min<int64_t>({rows, 64, rows * n / kChunk}));
}

// Calls f(chunk, first row, last row + 1) for every chunk, in parallel when there are several.
template <typename F>
void for_chunks(int64_t rows, int64_t chunks, const F& f) {
  auto range = [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) f(c, rows * c / chunks, rows * (c + 1) / chunks);
  };
  if (chunks == 1) return range(0, 1);
  at::parallel_for(0, chunks, 1, range);
}

// 1 for the first k inputs and 0 for the others: a loop over whole vectors beats a short one.
template <typename A>
std::vector<A> first(int64_t k, int64_t n) {
  std::vector<A> mask(n, A(0));
  std::fill_n(mask.begin(), k, A(1));
  return mask;
}

// Calls f with a value of the C++ type of `type`.
template <typename F>
void with_type(at::ScalarType type, const F& f) {
  switch (type) {
    case at::kFloat: return f(float{});
    case at::kDouble: return f(double{});
    case at::kBFloat16: return f(at::BFloat16{});
    case at::kHalf: return f(at::Half{});
    default: TORCH_CHECK(false, "fused norms take fp32, fp64, bf16 and fp16, not ", type);
  }
}

at::ScalarType acc_type(const Tensor& x) {
  return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
}

// The checks stand before everything that reads memory: a kernel trusts its sizes. They compare
// integers and build a message only to throw it.

// An input (..., n) with n >= 1.
void check_input(const char* name, const Tensor& t) {
  TORCH_CHECK(t.dim() > 0 && t.size(-1) > 0, name, " must be (..., n) with n >= 1, got ",
              t.sizes());
  TORCH_CHECK(at::isFloatingType(t.scalar_type()), name, " must have a floating-point dtype, got ",
              t.scalar_type());
  TORCH_CHECK(t.device().is_cpu(), name, " must be on cpu, got ", t.device());
}

// A tensor of the given sizes, floating point on the CPU; of dtype `type` unless it is converted.
void check_sizes(const char* name, const Tensor& t, at::IntArrayRef sizes,
                 std::optional<at::ScalarType> type = std::nullopt) {
  TORCH_CHECK(t.sizes() == sizes, name, " must be ", sizes, ", got ", t.sizes());
  TORCH_CHECK(type ? t.scalar_type() == *type : at::isFloatingType(t.scalar_type()), name,
              " must have ", type ? at::toString(*type) : "a floating-point dtype", ", got ",
              t.scalar_type());
  TORCH_CHECK(t.device().is_cpu(), name, " must be on cpu, got ", t.device());
}

void check_sizes(const char* name, const OptTensor& t, at::IntArrayRef sizes) {
  if (t) check_sizes(name, *t, sizes);
}

void check_k(const char* name, int64_t k, int64_t least, int64_t n) {
  TORCH_CHECK(least <= k && k <= n, name, " must lie in ", least, " ... ", n, ", got ", k);
}

Tensor gain_or_ones(const OptTensor& gain, int64_t n, at::ScalarType type) {
  return gain ? gain->to(type).contiguous() : at::ones({n}, at::dtype(type));
}

void* address(const Tensor& t, int64_t row = 0) {
  return static_cast<char*>(t.mutable_data_ptr()) + row * t.size(-1) * t.element_size();
}

template <typename F>
auto op(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<F>();
}

OptTensor optional(const Tensor& t) { return t.defined() ? OptTensor(t) : OptTensor(); }

using Variables = torch::autograd::variable_list;
using Context = torch::autograd::AutogradContext;

}  // namespace
