// One step of a gated recurrent unit with norms on its recurrent side, on CPU: all that follows the
// matrix product s = U h + b, forward and backward, in one pass over the rows each.
//   (r, u) = sigmoid(x_g + N(s_g)),  c = tanh(x_c + r * N(s_c)),  h' = u * h + (1 - u) * c
// s = (s_g, s_c) has 2n + n columns, x_g and x_c are the input side, already normalised. N is one of
// the norms of norms.cpp, with the same gradient; k = 0 stands for none at all.
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>

#include "common.h"

#include <bit>

namespace {

// exp and tanh in fp32 as plain arithmetic, which compilers vectorise where they would call libm;
// relative error below 3e-7. The polynomials are those of the Cephes library (Moshier).
inline float exponential(float x) {
  x = x < -87.3f ? -87.3f : x;  // comparisons this way round let a NaN through
  x = x > 88.3f ? 88.3f : x;
  const float n = std::rint(x * 1.44269504f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return (p * r * r + r + 1) * power;
}
inline double exponential(double x) { return std::exp(x); }

inline float tangent(float x) {
  const float z = x * x;
  float p = -5.70498872745e-3f;
  p = p * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  const float small = p * z * x + x, large = 1 - 2 / (exponential(2 * std::abs(x)) + 1);
  return z < 0.39f ? small : std::copysign(large, x);
}
inline double tangent(double x) { return std::tanh(x); }

// The norm of one part of s: its n inputs, gain and bias, and the first k inputs as a mask.
template <typename A>
struct Part {
  int64_t n, k;
  bool centre;
  A eps;
  const A *gain, *bias;  // bias: null without one
  std::vector<A> mask;

  // out = N(s); r and mean are what the backward pass needs of the row
  template <typename T>
  void forward(const T* s, A* out, A& r, A& mean) const {
    A total = 0, square = 0;
    if (centre) {
#pragma omp simd reduction(+ : total)
      for (int64_t j = 0; j < n; ++j) total += A(s[j]);
    }
    mean = total / A(n);
    r = 1;
    if (k > 0) {
#pragma omp simd reduction(+ : square)
      for (int64_t j = 0; j < n; ++j) {
        const A v = mask[j] != A(0) ? A(s[j]) - mean : A(0);  // a product of infinity and 0 is NaN
        square += v * v;
      }
      r = A(1) / std::sqrt(square / A(k) + eps);
    }
    apply(s, out, r, mean);
  }

  template <typename T>
  void apply(const T* s, A* out, A r, A mean) const {
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) out[j] = (A(s[j]) - mean) * r * gain[j];
    if (bias != nullptr) {
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) out[j] += bias[j];
    }
  }

  // d is the gradient of N(s); fills ds and adds to dgain and dbias
  template <typename T>
  void backward(const A* d, const T* s, A r, A mean, T* ds, A* dgain, A* dbias) const {
    A dot = 0, sum = 0;
#pragma omp simd reduction(+ : dot, sum)
    for (int64_t j = 0; j < n; ++j) {
      dot += gain[j] * d[j] * (A(s[j]) - mean);
      sum += gain[j] * d[j];
    }
    const A slope = k > 0 ? dot / A(k) * r * r * r : A(0);
    const A shift = centre ? r * sum / A(n) : A(0);
#pragma omp simd
    for (int64_t j = 0; j < n; ++j) {
      const A v = A(s[j]) - mean;
      const A through = mask[j] != A(0) ? v * slope : A(0);  // infinity times 0 is NaN
      store(ds[j], r * gain[j] * d[j] - shift - through);
      dgain[j] += d[j] * v * r;
    }
    if (bias != nullptr) {
#pragma omp simd
      for (int64_t j = 0; j < n; ++j) dbias[j] += d[j];
    }
  }
};

// The parameters of both parts in the accumulation type, and the sizes.
struct Setup {
  Tensor gain_g, gain_c, bias_g, bias_c;
  int64_t rows, n, k_g, k_c;
  bool centre;
  double eps;

  Setup(const Tensor& s, const OptTensor& gain_g, const OptTensor& bias_g, const OptTensor& gain_c,
        const OptTensor& bias_c, double eps, int64_t k_g, int64_t k_c, bool centre)
      : rows(checked(s).size(0)), n(s.size(1) / 3), k_g(k_g), k_c(k_c), centre(centre), eps(eps) {
    check_k("gates_k", k_g, 0, 2 * n);
    check_k("candidate_k", k_c, 0, n);
    check_sizes("gates_gain", gain_g, {2 * n});
    check_sizes("gates_bias", bias_g, {2 * n});
    check_sizes("candidate_gain", gain_c, {n});
    check_sizes("candidate_bias", bias_c, {n});
    TORCH_CHECK(bias_g.has_value() == bias_c.has_value(), "both norms have a bias, or none has");
    const auto type = acc_type(s);
    this->gain_g = gain_or_ones(gain_g, 2 * n, type);
    this->gain_c = gain_or_ones(gain_c, n, type);
    if (bias_g) this->bias_g = bias_g->to(type).contiguous();
    if (bias_c) this->bias_c = bias_c->to(type).contiguous();
  }

  static const Tensor& checked(const Tensor& s) {
    check_input("s", s);
    TORCH_CHECK(s.dim() == 2 && s.size(1) % 3 == 0, "s must be (rows, 3 n), got ", s.sizes());
    return s;
  }

  template <typename A>
  Part<A> part(bool gates) const {
    const Tensor &gain = gates ? gain_g : gain_c, &bias = gates ? bias_g : bias_c;
    const int64_t size = gates ? 2 * n : n, k = gates ? k_g : k_c;
    return {size, k, centre, A(eps), gain.const_data_ptr<A>(),
            bias.defined() ? bias.const_data_ptr<A>() : nullptr, first<A>(k, size)};
  }
};

// A step costs more than a norm: exponentials. So fewer inputs are worth a thread's while.
int64_t gru_chunks(int64_t rows, int64_t n) { return chunk_count(rows, 12 * n); }

// s (rows, 3n), x_g (rows, 2n), x_c, h (rows, n) -> h' like h; r, u, c (rows, 3n);
// statistics (4, rows): r and mean of the gates' norm, of the candidate's
std::tuple<Tensor, Tensor, Tensor> gru(const Tensor& s_, const Tensor& x_g_, const Tensor& x_c_,
                                       const Tensor& h_, const OptTensor& gain_g,
                                       const OptTensor& bias_g, const OptTensor& gain_c,
                                       const OptTensor& bias_c, double eps, int64_t k_g,
                                       int64_t k_c, bool centre) {
  const Setup setup(s_, gain_g, bias_g, gain_c, bias_c, eps, k_g, k_c, centre);
  const auto type = acc_type(s_);
  const int64_t rows = setup.rows, n = setup.n;
  check_sizes("x_gates", x_g_, {rows, 2 * n});
  check_sizes("x_candidate", x_c_, {rows, n});
  check_sizes("h", h_, {rows, n});
  const Tensor s = s_.contiguous(), h = h_.to(type).contiguous();
  const Tensor x_g = x_g_.to(s.scalar_type()).contiguous();
  const Tensor x_c = x_c_.to(s.scalar_type()).contiguous();
  const auto options = s.options().dtype(type);
  Tensor next = at::empty({rows, n}, options), acts = at::empty({rows, 3 * n}, options);
  Tensor statistics = at::empty({4, rows}, options);
  with_type(s.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using A = typename Acc<T>::type;
    const Part<A> gates = setup.part<A>(true), candidate = setup.part<A>(false);
    A* stat = statistics.mutable_data_ptr<A>();
    for_chunks(rows, gru_chunks(rows, n), [&](int64_t, int64_t begin, int64_t end) {
      std::vector<A> normed(n);
      for (int64_t i = begin; i < end; ++i) {
        const T* si = s.const_data_ptr<T>() + i * 3 * n;
        const T* xg = x_g.const_data_ptr<T>() + i * 2 * n;
        const T* xc = x_c.const_data_ptr<T>() + i * n;
        const A* hi = h.const_data_ptr<A>() + i * n;
        A* a = acts.mutable_data_ptr<A>() + i * 3 * n;
        A* out = next.mutable_data_ptr<A>() + i * n;
        gates.forward(si, a, stat[i], stat[rows + i]);
        candidate.forward(si + 2 * n, normed.data(), stat[2 * rows + i], stat[3 * rows + i]);
        const A* nc = normed.data();
#pragma omp simd
        for (int64_t j = 0; j < 2 * n; ++j) a[j] = A(1) / (A(1) + exponential(-(A(xg[j]) + a[j])));
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) {
          const A c = tangent(A(xc[j]) + a[j] * nc[j]);
          a[2 * n + j] = c;
          out[j] = c + a[n + j] * (hi[j] - c);
        }
      }
    });
  });
  return {next.to(h_.scalar_type()), acts, statistics};
}

// -> gradients of s, x_g, x_c, h; of the gains (3n,), or of gains and biases (2, 3n)
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> gru_backward(
    const Tensor& d_, const Tensor& s_, const Tensor& h_, const Tensor& acts_,
    const Tensor& statistics_, const OptTensor& gain_g, const OptTensor& bias_g,
    const OptTensor& gain_c, const OptTensor& bias_c, int64_t k_g, int64_t k_c, bool centre) {
  const Setup setup(s_, gain_g, bias_g, gain_c, bias_c, 0, k_g, k_c, centre);
  const auto type = acc_type(s_);
  const int64_t rows = setup.rows, n = setup.n, chunks = gru_chunks(rows, n);
  const bool has_bias = bias_g.has_value();
  check_sizes("d", d_, {rows, n});
  check_sizes("h", h_, {rows, n});
  check_sizes("acts", acts_, {rows, 3 * n}, type);
  check_sizes("statistics", statistics_, {4, rows}, type);
  const Tensor acts = acts_.contiguous(), statistics = statistics_.contiguous();
  const Tensor d = d_.to(type).contiguous(), s = s_.contiguous(), h = h_.to(type).contiguous();
  Tensor ds = at::empty_like(s), dx_g = at::empty({rows, 2 * n}, s.options());
  Tensor dx_c = at::empty({rows, n}, s.options()), dh = at::empty_like(h);
  Tensor partial = at::zeros({has_bias ? 2 : 1, chunks, 3 * n}, s.options().dtype(type));
  with_type(s.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using A = typename Acc<T>::type;
    const Part<A> gates = setup.part<A>(true), candidate = setup.part<A>(false);
    const A* stat = statistics.const_data_ptr<A>();
    for_chunks(rows, chunks, [&](int64_t chunk, int64_t begin, int64_t end) {
      A* dgain = partial.mutable_data_ptr<A>() + chunk * 3 * n;
      A* dbias = has_bias ? dgain + chunks * 3 * n : nullptr;
      std::vector<A> buffer(4 * n);
      A *nc = buffer.data(), *d_nc = nc, *d_gates = nc + n;  // d_nc takes the place of nc
      for (int64_t i = begin; i < end; ++i) {
        const T* si = s.const_data_ptr<T>() + i * 3 * n;
        const A *di = d.const_data_ptr<A>() + i * n, *hi = h.const_data_ptr<A>() + i * n;
        const A* a = acts.const_data_ptr<A>() + i * 3 * n;
        T* dxg = dx_g.mutable_data_ptr<T>() + i * 2 * n;
        T* dxc = dx_c.mutable_data_ptr<T>() + i * n;
        A* dhi = dh.mutable_data_ptr<A>() + i * n;
        T* dsi = ds.mutable_data_ptr<T>() + i * 3 * n;
        candidate.apply(si + 2 * n, nc, stat[2 * rows + i], stat[3 * rows + i]);
#pragma omp simd
        for (int64_t j = 0; j < n; ++j) {
          const A r = a[j], u = a[n + j], c = a[2 * n + j], g = di[j];
          const A before = g * (A(1) - u) * (A(1) - c * c);  // of x_c + r * N(s_c)
          dhi[j] = g * u;
          store(dxc[j], before);
          d_gates[j] = before * nc[j] * r * (A(1) - r);
          d_gates[n + j] = g * (hi[j] - c) * u * (A(1) - u);
          d_nc[j] = before * r;
        }
#pragma omp simd
        for (int64_t j = 0; j < 2 * n; ++j) store(dxg[j], d_gates[j]);
        gates.backward(d_gates, si, stat[i], stat[rows + i], dsi, dgain, dbias);
        candidate.backward(d_nc, si + 2 * n, stat[2 * rows + i], stat[3 * rows + i], dsi + 2 * n,
                           dgain + 2 * n, dbias == nullptr ? nullptr : dbias + 2 * n);
      }
    });
  });
  const Tensor sums = chunks == 1 ? partial.select(1, 0) : partial.sum(1);
  return {ds, dx_g, dx_c, dh.to(h_.scalar_type()), has_bias ? sums : sums[0]};
}

struct Gru : torch::autograd::Function<Gru> {
  static Variables forward(Context* ctx, Tensor s, Tensor x_g, Tensor x_c, Tensor h,
                           const OptTensor& gain_g, const OptTensor& bias_g,
                           const OptTensor& gain_c, const OptTensor& bias_c, double eps,
                           int64_t k_g, int64_t k_c, bool centre) {
    static auto call = op<decltype(gru)>("normlab::gru");
    at::AutoDispatchBelowADInplaceOrView below;
    auto [next, acts, statistics] =
        call.call(s, x_g, x_c, h, gain_g, bias_g, gain_c, bias_c, eps, k_g, k_c, centre);
    const Tensor none;
    ctx->save_for_backward({s, h, acts, statistics, gain_g.value_or(none), bias_g.value_or(none),
                            gain_c.value_or(none), bias_c.value_or(none)});
    ctx->saved_data["k_g"] = k_g;
    ctx->saved_data["k_c"] = k_c;
    ctx->saved_data["centre"] = centre;
    ctx->saved_data["dtypes"] = std::vector<int64_t>{static_cast<int64_t>(x_g.scalar_type()),
                                                     static_cast<int64_t>(x_c.scalar_type())};
    ctx->mark_non_differentiable({acts, statistics});
    return {next, acts, statistics};
  }

  static Variables backward(Context* ctx, Variables grads) {
    static auto call = op<decltype(gru_backward)>("normlab::gru_backward");
    const auto saved = ctx->get_saved_variables();
    const Tensor &gain_g = saved[4], &bias_g = saved[5], &gain_c = saved[6], &bias_c = saved[7];
    auto [ds, dx_g, dx_c, dh, d] = call.call(
        grads[0], saved[0], saved[1], saved[2], saved[3], optional(gain_g), optional(bias_g),
        optional(gain_c), optional(bias_c), ctx->saved_data["k_g"].toInt(),
        ctx->saved_data["k_c"].toInt(), ctx->saved_data["centre"].toBool());
    const int64_t n = dh.size(1);
    const bool has_bias = bias_g.defined();
    auto part = [&](const Tensor& parameter, bool bias, int64_t begin, int64_t size) {
      if (!parameter.defined()) return Tensor();
      const Tensor row = has_bias ? d.select(0, bias) : d;
      return row.narrow(0, begin, size).to(parameter.scalar_type());
    };
    const auto dtypes = ctx->saved_data["dtypes"].toIntVector();
    return {ds,
            dx_g.to(static_cast<at::ScalarType>(dtypes[0])),
            dx_c.to(static_cast<at::ScalarType>(dtypes[1])),
            dh,
            part(gain_g, false, 0, 2 * n),
            part(bias_g, true, 0, 2 * n),
            part(gain_c, false, 2 * n, n),
            part(bias_c, true, 2 * n, n),
            Tensor(),
            Tensor(),
            Tensor(),
            Tensor()};
  }
};

std::tuple<Tensor, Tensor, Tensor> gru_autograd(const Tensor& s, const Tensor& x_g,
                                                const Tensor& x_c, const Tensor& h,
                                                const OptTensor& gain_g, const OptTensor& bias_g,
                                                const OptTensor& gain_c, const OptTensor& bias_c,
                                                double eps, int64_t k_g, int64_t k_c, bool centre) {
  auto out = Gru::apply(s, x_g, x_c, h, gain_g, bias_g, gain_c, bias_c, eps, k_g, k_c, centre);
  return {out[0], out[1], out[2]};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(normlab, m) {
  m.def("gru(Tensor s, Tensor x_gates, Tensor x_candidate, Tensor h, Tensor? gates_gain,"
        " Tensor? gates_bias, Tensor? candidate_gain, Tensor? candidate_bias, float eps,"
        " int gates_k, int candidate_k, bool centre) -> (Tensor, Tensor, Tensor)");
  m.def("gru_backward(Tensor d, Tensor s, Tensor h, Tensor acts, Tensor statistics,"
        " Tensor? gates_gain, Tensor? gates_bias, Tensor? candidate_gain, Tensor? candidate_bias,"
        " int gates_k, int candidate_k, bool centre)"
        " -> (Tensor, Tensor, Tensor, Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(normlab, CPU, m) {
  m.impl("gru", gru);
  m.impl("gru_backward", gru_backward);
}

TORCH_LIBRARY_IMPL(normlab, Autograd, m) {
  m.impl("gru", gru_autograd);
  m.impl("gru_backward", torch::autograd::autogradNotImplementedFallback());
}
