// LayerNorm, RMSNorm and pRMSNorm on CPU, forward and backward, each in two passes over a row.
//
// One kernel serves all three. With mu the mean (0 unless `centre`) and r the reciprocal root of
// mean((x - mu)^2 over the first k inputs) + eps:
//   y  = (x - mu) r gain + bias
//   dx = r w - [centre] (r / n) sum(w) - [j < k] (x - mu) (r^3 / k) sum(w (x - mu)),  w = gain dy
// RMSNorm is k = n, pRMSNorm k = ceil(n p) (Zhang & Sennrich 2019, Eq. 4 and section 5); LayerNorm
// is k = n with `centre`. Only mu and r are saved. Rows are cut into chunks by their number alone,
// never by the number of threads: gain gradients are summed in one order, so results repeat bit by
// bit on any machine of the same instruction set.
#include <ATen/ops/add.h>

#include "common.h"
#ifdef __SSE2__
#include <immintrin.h>
#endif

namespace {

// An output that may be too large for the caches is written past them: a plain store would first
// read the line it overwrites. The row is built in `buffer`, which stays in the L1 cache. A layer
// that reads the output takes the same time either way.
constexpr int64_t kStreamBytes = 4 << 20;

void stream(void* to, const void* from, int64_t bytes) {
#if defined(__AVX512F__)
  using Line = __m512i;
  auto write = [](Line* out, const Line* in) { _mm512_stream_si512(out, _mm512_loadu_si512(in)); };
#elif defined(__SSE2__)
  using Line = __m128i;
  auto write = [](Line* out, const Line* in) { _mm_stream_si128(out, _mm_loadu_si128(in)); };
#endif
#if defined(__SSE2__)
  constexpr int64_t size = sizeof(Line);
  if (reinterpret_cast<uintptr_t>(to) % size == 0 && bytes % size == 0) {
    for (int64_t i = 0; i < bytes / size; ++i)
      write(static_cast<Line*>(to) + i, static_cast<const Line*>(from) + i);
    return;
  }
#endif
  std::memcpy(to, from, bytes);
}

// Writes rows of n values of type T, each built in place or in a buffer that is streamed out.
template <typename T>
struct RowWriter {
  T* out;
  int64_t n;
  std::vector<T> buffer;
  RowWriter(T* out, int64_t rows, int64_t n)
      : out(out), n(n), buffer(rows * n * sizeof(T) >= kStreamBytes ? n : 0) {}
  RowWriter(const RowWriter&) = delete;
  ~RowWriter() {
#ifdef __SSE2__
    if (!buffer.empty()) _mm_sfence();  // streamed lines are not ordered with what follows
#endif
  }
  T* row(int64_t i) { return buffer.empty() ? out + i * n : buffer.data(); }
  void done(int64_t i) {
    if (!buffer.empty()) stream(out + i * n, buffer.data(), n * sizeof(T));
  }
};

// Brings a row into the L1 cache, as the first pass of the norms over whole rows does on its way:
// reads that alternate with the writes of y cost pRMSNorm a fifth of its forward pass.
void touch(const void* row, int64_t bytes) {
  const volatile char* line = static_cast<const volatile char*>(row);
  for (int64_t i = 0; i < bytes; i += 64) (void)line[i];
}

// The mask of a norm over the first k inputs, as long as their vectors; empty for one over all n.
template <typename A>
std::vector<A> partial_mask(int64_t k, int64_t n) {
  return k < n ? first<A>(k, std::min(n, (k + 15) / 16 * 16)) : std::vector<A>();
}

struct Forward {
  const void *x, *residual;
  void *sum, *y;
  const void *gain, *bias;
  void *r, *mean;  // mean: null unless centred
  double eps;
  int64_t rows, n, k;
};

template <typename T, typename A, bool kCentre, bool kAdd, bool kPartial>
void forward_rows(const Forward& f, const std::vector<A>& first_k, int64_t begin, int64_t end) {
  const int64_t n = f.n, k = f.k, whole = first_k.size();
  const A* mask = first_k.data();
  const A* gain = static_cast<const A*>(f.gain);
  const A* bias = static_cast<const A*>(f.bias);
  RowWriter<T> writer(static_cast<T*>(f.y), f.rows, n);
  for (int64_t row = begin; row < end; ++row) {
    const T* a = static_cast<const T*>(f.x) + row * n;
    if constexpr (kAdd) {
      const T* b = static_cast<const T*>(f.residual) + row * n;
      T* s = static_cast<T*>(f.sum) + row * n;
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) store(s[j], A(a[j]) + A(b[j]));
      a = s;
    }
    A mean = 0, square = 0;
    if constexpr (kCentre) {
#pragma omp simd reduction(+ : mean)
      for (int64_t j = 0; j < n; ++j) mean += A(a[j]);
      mean /= A(n);
      static_cast<A*>(f.mean)[row] = mean;
    }
    if constexpr (kPartial) {
      touch(a, n * sizeof(T));
#pragma omp simd reduction(+ : square)
      for (int64_t j = 0; j < whole; ++j) {
        const A v = mask[j] != A(0) ? A(a[j]) - mean : A(0);  // a product of infinity and 0 is NaN
        square += v * v;
      }
    } else {
#pragma omp simd reduction(+ : square)
      for (int64_t j = 0; j < n; ++j) square += (A(a[j]) - mean) * (A(a[j]) - mean);
    }
    const A r = A(1) / std::sqrt(square / A(k) + A(f.eps));
    static_cast<A*>(f.r)[row] = r;
    T* out = writer.row(row);
    if (bias != nullptr) {
#pragma omp simd
      for (int64_t j = 0; j < n; ++j)
        store(out[j], (A(a[j]) - mean) * r * gain[j] + bias[j]);
    } else {
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) store(out[j], (A(a[j]) - mean) * r * gain[j]);
    }
    writer.done(row);
  }
}

struct Backward {
  const void *dy, *x, *gain, *r, *mean;
  void *dx, *dgain, *dbias;  // dgain, dbias: (chunks, n); dbias null without a bias
  int64_t rows, n, k;
};

template <typename T, typename A, bool kCentre, bool kPartial>
void backward_rows(const Backward& b, const std::vector<A>& first_k, int64_t chunk, int64_t begin,
                   int64_t end) {
  const int64_t n = b.n, whole = first_k.size();
  const A* gain = static_cast<const A*>(b.gain);
  const A* mask = first_k.data();
  A* dgain = static_cast<A*>(b.dgain) + chunk * n;
  A* dbias = b.dbias == nullptr ? nullptr : static_cast<A*>(b.dbias) + chunk * n;
  RowWriter<T> writer(static_cast<T*>(b.dx), b.rows, n);
  for (int64_t row = begin; row < end; ++row) {
    const T* a = static_cast<const T*>(b.x) + row * n;
    const T* d = static_cast<const T*>(b.dy) + row * n;
    const A r = static_cast<const A*>(b.r)[row];
    const A mean = kCentre ? static_cast<const A*>(b.mean)[row] : A(0);
    A dot = 0, total = 0;
#pragma omp simd reduction(+ : dot, total)
    for (int64_t j = 0; j < n; ++j) {
      const A w = gain[j] * A(d[j]);
      dot += w * (A(a[j]) - mean);
      if constexpr (kCentre) total += w;
    }
    const A slope = dot / A(b.k) * r * r * r;  // in this order: r^3 may underflow
    const A shift = r * total / A(n);
    T* out = writer.row(row);
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const A v = A(a[j]) - mean, g = A(d[j]);
      const A dx = r * gain[j] * g - shift;
      store(out[j], kPartial ? dx : dx - v * slope);
      dgain[j] += g * v * r;
    }
    if constexpr (kPartial) {  // those inputs again: cheaper than a mask over the whole row
#pragma omp simd
      for (int64_t j = 0; j < whole; ++j) {
        const A v = A(a[j]) - mean, dx = r * gain[j] * A(d[j]) - shift;
        const A through = mask[j] != A(0) ? v * slope : A(0);  // as above
        store(out[j], dx - through);
      }
    }
    writer.done(row);
    if (dbias != nullptr) {
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) dbias[j] += A(d[j]);
    }
  }
}

void check_arguments(const Tensor& x, const OptTensor& gain, const OptTensor& bias, int64_t k) {
  check_input("x", x);
  const int64_t n = x.size(-1);
  check_sizes("gain", gain, {n});
  check_sizes("bias", bias, {n});
  check_k("k", k, 1, n);
}

// Fills y and returns the statistics: r (rows,), or r and mean (2, rows) with `centre`.
template <bool kAdd>
Tensor run_forward(const Tensor& x, const Tensor& residual, const Tensor& sum, const Tensor& y,
                   const OptTensor& gain, const OptTensor& bias, double eps, int64_t k,
                   bool centre) {
  const auto type = acc_type(x);
  const int64_t n = x.size(-1), rows = x.numel() / n;
  Tensor statistics = centre ? at::empty({2, rows}, x.options().dtype(type))
                             : at::empty({rows}, x.options().dtype(type));
  const Tensor g = gain_or_ones(gain, n, type);
  const Tensor b = bias ? bias->to(type).contiguous() : Tensor();
  const Forward f{x.const_data_ptr(), kAdd ? residual.const_data_ptr() : nullptr,
                  kAdd ? address(sum) : nullptr, address(y), g.const_data_ptr(),
                  bias ? b.const_data_ptr() : nullptr, address(statistics),
                  centre ? address(statistics, 1) : nullptr, eps, rows, n, k};
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using A = typename Acc<T>::type;
    const std::vector<A> mask = partial_mask<A>(k, n);
    for_chunks(rows, chunk_count(rows, n), [&](int64_t, int64_t begin, int64_t end) {
      centre  ? k < n ? forward_rows<T, A, true, kAdd, true>(f, mask, begin, end)
                      : forward_rows<T, A, true, kAdd, false>(f, mask, begin, end)
      : k < n ? forward_rows<T, A, false, kAdd, true>(f, mask, begin, end)
              : forward_rows<T, A, false, kAdd, false>(f, mask, begin, end);
    });
  });
  return statistics;
}

// x (..., n) -> y like x, statistics (rows,) or (2, rows)
std::tuple<Tensor, Tensor> norm(const Tensor& x_, const OptTensor& gain, const OptTensor& bias,
                                double eps, int64_t k, bool centre) {
  check_arguments(x_, gain, bias, k);
  const Tensor x = x_.contiguous(), none;
  Tensor y = at::empty_like(x);
  Tensor statistics = run_forward<false>(x, none, none, y, gain, bias, eps, k, centre);
  return {y, statistics};
}

// x, residual (..., n) -> y = norm(x + residual), the sum, statistics
std::tuple<Tensor, Tensor, Tensor> add_norm(const Tensor& x_, const Tensor& residual_,
                                            const OptTensor& gain, const OptTensor& bias,
                                            double eps, int64_t k, bool centre) {
  check_arguments(x_, gain, bias, k);
  check_sizes("residual", residual_, x_.sizes(), x_.scalar_type());
  const Tensor x = x_.contiguous(), residual = residual_.contiguous();
  Tensor sum = at::empty_like(x), y = at::empty_like(x);
  Tensor statistics = run_forward<true>(x, residual, sum, y, gain, bias, eps, k, centre);
  return {y, sum, statistics};
}

// -> dx like x; the gradients of gain (n,), or of gain and bias (2, n), in the statistics' dtype
std::tuple<Tensor, Tensor> norm_backward(const Tensor& dy_, const Tensor& x_,
                                         const OptTensor& gain, const Tensor& statistics_,
                                         int64_t k, bool centre, bool has_bias) {
  check_arguments(x_, gain, {}, k);
  check_sizes("dy", dy_, x_.sizes(), x_.scalar_type());
  const auto type = acc_type(x_);
  const int64_t n = x_.size(-1), rows = x_.numel() / n, chunks = chunk_count(rows, n);
  if (centre) check_sizes("statistics", statistics_, {2, rows}, type);
  else check_sizes("statistics", statistics_, {rows}, type);
  const Tensor dy = dy_.contiguous(), x = x_.contiguous(), statistics = statistics_.contiguous();
  const Tensor g = gain_or_ones(gain, n, type);
  Tensor dx = at::empty_like(x);
  Tensor partial = at::zeros({has_bias ? 2 * chunks : chunks, n}, statistics.options());
  const Backward b{dy.const_data_ptr(), x.const_data_ptr(), g.const_data_ptr(),
                   statistics.const_data_ptr(), centre ? address(statistics, 1) : nullptr,
                   address(dx), address(partial), has_bias ? address(partial, chunks) : nullptr,
                   rows, n, k};
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using A = typename Acc<T>::type;
    const std::vector<A> mask = partial_mask<A>(k, n);
    for_chunks(rows, chunks, [&](int64_t c, int64_t begin, int64_t end) {
      centre  ? k < n ? backward_rows<T, A, true, true>(b, mask, c, begin, end)
                      : backward_rows<T, A, true, false>(b, mask, c, begin, end)
      : k < n ? backward_rows<T, A, false, true>(b, mask, c, begin, end)
              : backward_rows<T, A, false, false>(b, mask, c, begin, end);
    });
  });
  if (has_bias) return {dx, chunks == 1 ? partial : partial.view({2, chunks, n}).sum(1)};
  return {dx, chunks == 1 ? partial.view({n}) : partial.sum(0)};
}

void save(Context* ctx, const Tensor& x, const OptTensor& gain, const OptTensor& bias,
          const Tensor& statistics, int64_t k, bool centre) {
  ctx->save_for_backward({x, gain.value_or(Tensor()), bias.value_or(Tensor()), statistics});
  ctx->saved_data["k"] = centre ? -k : k;
  ctx->mark_non_differentiable({statistics});
  ctx->set_materialize_grads(false);
}

// The gradients of x, gain and bias; `dy` is undefined when only the sum was used.
Variables gradients(Context* ctx, const Tensor& dy) {
  static auto backward = op<decltype(norm_backward)>("normlab::norm_backward");
  if (!dy.defined()) return {Tensor(), Tensor(), Tensor()};
  const auto saved = ctx->get_saved_variables();
  const Tensor &x = saved[0], &gain = saved[1], &bias = saved[2];
  const int64_t k = ctx->saved_data["k"].toInt();
  auto [dx, d] = backward.call(dy, x, optional(gain), saved[3], std::abs(k), k < 0, bias.defined());
  if (bias.defined())
    return {dx, gain.defined() ? d.select(0, 0).to(gain.scalar_type()) : Tensor(),
            d.select(0, 1).to(bias.scalar_type())};
  return {dx, gain.defined() ? d.to(gain.scalar_type()) : Tensor(), Tensor()};
}

struct Norm : torch::autograd::Function<Norm> {
  static Variables forward(Context* ctx, Tensor x, const OptTensor& gain, const OptTensor& bias,
                           double eps, int64_t k, bool centre) {
    static auto call = op<decltype(norm)>("normlab::norm");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [y, statistics] = call.call(x, gain, bias, eps, k, centre);
    save(ctx, x, gain, bias, statistics, k, centre);
    return {y, statistics};
  }
  static Variables backward(Context* ctx, Variables grads) {
    const auto d = gradients(ctx, grads[0]);
    return {d[0], d[1], d[2], Tensor(), Tensor(), Tensor()};
  }
};

struct AddNorm : torch::autograd::Function<AddNorm> {
  static Variables forward(Context* ctx, Tensor x, Tensor residual, const OptTensor& gain,
                           const OptTensor& bias, double eps, int64_t k, bool centre) {
    static auto call = op<decltype(add_norm)>("normlab::add_norm");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [y, sum, statistics] = call.call(x, residual, gain, bias, eps, k, centre);
    save(ctx, sum, gain, bias, statistics, k, centre);
    return {y, sum, statistics};
  }
  static Variables backward(Context* ctx, Variables grads) {
    const auto d = gradients(ctx, grads[0]);
    // The sum feeds the norm, and whatever else reads it.
    const Tensor dx = !d[0].defined()      ? grads[1]
                      : grads[1].defined() ? at::add(d[0], grads[1])
                                           : d[0];
    return {dx, dx, d[1], d[2], Tensor(), Tensor(), Tensor()};
  }
};

struct NormBackward : torch::autograd::Function<NormBackward> {
  static Variables forward(Context* ctx, Tensor dy, Tensor x, const OptTensor& gain,
                           Tensor statistics, int64_t k, bool centre, bool has_bias) {
    static auto call = op<decltype(norm_backward)>("normlab::norm_backward");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [dx, d] = call.call(dy, x, gain, statistics, k, centre, has_bias);
    return {dx, d};
  }
  static Variables backward(Context*, Variables) {
    TORCH_CHECK_NOT_IMPLEMENTED(
        false, "fused norms have no second derivative: choose impl=composed.");
  }
};

std::tuple<Tensor, Tensor> norm_autograd(const Tensor& x, const OptTensor& gain,
                                         const OptTensor& bias, double eps, int64_t k,
                                         bool centre) {
  auto out = Norm::apply(x, gain, bias, eps, k, centre);
  return {out[0], out[1]};
}

std::tuple<Tensor, Tensor, Tensor> add_norm_autograd(const Tensor& x, const Tensor& residual,
                                                     const OptTensor& gain, const OptTensor& bias,
                                                     double eps, int64_t k, bool centre) {
  auto out = AddNorm::apply(x, residual, gain, bias, eps, k, centre);
  return {out[0], out[1], out[2]};
}

std::tuple<Tensor, Tensor> norm_backward_autograd(const Tensor& dy, const Tensor& x,
                                                  const OptTensor& gain, const Tensor& statistics,
                                                  int64_t k, bool centre, bool has_bias) {
  auto out = NormBackward::apply(dy, x, gain, statistics, k, centre, has_bias);
  return {out[0], out[1]};
}

}  // namespace

TORCH_LIBRARY(normlab, m) {
  m.def("norm(Tensor x, Tensor? gain, Tensor? bias, float eps, int k, bool centre)"
        " -> (Tensor, Tensor)");
  m.def("add_norm(Tensor x, Tensor residual, Tensor? gain, Tensor? bias, float eps, int k,"
        " bool centre) -> (Tensor, Tensor, Tensor)");
  m.def("norm_backward(Tensor dy, Tensor x, Tensor? gain, Tensor statistics, int k,"
        " bool centre, bool has_bias) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(normlab, CPU, m) {
  m.impl("norm", norm);
  m.impl("add_norm", add_norm);
  m.impl("norm_backward", norm_backward);
}

TORCH_LIBRARY_IMPL(normlab, Autograd, m) {
  m.impl("norm", norm_autograd);
  m.impl("add_norm", add_norm_autograd);
  m.impl("norm_backward", norm_backward_autograd);
}
