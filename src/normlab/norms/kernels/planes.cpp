// LayerNorm, RMSNorm and pRMSNorm of images on CPU: over the positions of each channel by itself.
//
// x (batch, n, channels) is an image with its channels last, which is how convolutions read and
// write it; a plane is one channel of one sample, n inputs that lie `channels` apart. The formulas
// are those of norms.cpp, with gain and bias by channel. Every loop runs along the channels, so that
// all planes of a sample are summed side by side. Samples are cut into chunks by their number alone:
// results repeat bit by bit, as there.
#include <ATen/ops/clone.h>

#include "common.h"

namespace {

struct Planes {
  int64_t batch, n, channels, k;
  Planes(const Tensor& x, int64_t k) : batch(x.size(0)), n(x.size(1)), channels(x.size(2)), k(k) {}
  int64_t chunks() const { return chunk_count(batch, n * channels); }
};

struct Forward {
  const void *x, *gain, *bias;
  void *y, *r, *mean;  // r, mean: (batch, channels); mean null unless centred
  double eps;
};

template <typename T, typename A, bool kCentre>
void forward_planes(const Planes& p, const Forward& f, int64_t begin, int64_t end) {
  const int64_t c = p.channels;
  const A* gain = static_cast<const A*>(f.gain);
  const A* bias = static_cast<const A*>(f.bias);
  std::vector<A> mean_of(c), square_of(c), scale_of(c);
  A *mean = mean_of.data(), *square = square_of.data(), *scale = scale_of.data();
  for (int64_t i = begin; i < end; ++i) {
    const T* x = static_cast<const T*>(f.x) + i * p.n * c;
    T* y = static_cast<T*>(f.y) + i * p.n * c;
    A* r = static_cast<A*>(f.r) + i * c;
    std::fill_n(mean, c, A(0));
    std::fill_n(square, c, A(0));
    if constexpr (kCentre) {
      for (int64_t at = 0; at < p.n; ++at) {
#pragma omp simd
        for (int64_t j = 0; j < c; ++j) mean[j] += A(x[at * c + j]);
      }
      for (int64_t j = 0; j < c; ++j) mean[j] /= A(p.n);
      std::copy_n(mean, c, static_cast<A*>(f.mean) + i * c);
    }
    for (int64_t at = 0; at < p.k; ++at) {
#pragma omp simd
      for (int64_t j = 0; j < c; ++j) {
        const A v = A(x[at * c + j]) - mean[j];
        square[j] += v * v;
      }
    }
    for (int64_t j = 0; j < c; ++j) {
      r[j] = A(1) / std::sqrt(square[j] / A(p.k) + A(f.eps));
      scale[j] = r[j] * gain[j];
    }
    for (int64_t at = 0; at < p.n; ++at) {
#pragma omp simd
      for (int64_t j = 0; j < c; ++j)
        store(y[at * c + j], (A(x[at * c + j]) - mean[j]) * scale[j] + bias[j]);
    }
  }
}

struct Backward {
  const void *dy, *x, *gain, *r, *mean;
  void *dx, *dgain, *dbias;  // dgain, dbias: (chunks, channels)
};

template <typename T, typename A, bool kCentre>
void backward_planes(const Planes& p, const Backward& b, int64_t chunk, int64_t begin,
                     int64_t end) {
  const int64_t c = p.channels;
  const A* gain = static_cast<const A*>(b.gain);
  A* dgain = static_cast<A*>(b.dgain) + chunk * c;
  A* dbias = static_cast<A*>(b.dbias) + chunk * c;
  std::vector<A> zeros(c), dot_of(c), total_of(c);
  A *dot = dot_of.data(), *total = total_of.data();
  for (int64_t i = begin; i < end; ++i) {
    const T* x = static_cast<const T*>(b.x) + i * p.n * c;
    const T* dy = static_cast<const T*>(b.dy) + i * p.n * c;
    T* dx = static_cast<T*>(b.dx) + i * p.n * c;
    const A* r = static_cast<const A*>(b.r) + i * c;
    const A* mean = kCentre ? static_cast<const A*>(b.mean) + i * c : zeros.data();
    std::fill_n(dot, c, A(0));
    std::fill_n(total, c, A(0));
    for (int64_t at = 0; at < p.n; ++at) {
#pragma omp simd
      for (int64_t j = 0; j < c; ++j) {
        const A d = A(dy[at * c + j]);
        dot[j] += d * (A(x[at * c + j]) - mean[j]);
        total[j] += d;
      }
    }
    for (int64_t j = 0; j < c; ++j) {
      dgain[j] += dot[j] * r[j];
      dbias[j] += total[j];
      dot[j] = gain[j] * dot[j] / A(p.k) * r[j] * r[j] * r[j];  // in this order: r^3 may underflow
      total[j] = kCentre ? r[j] * gain[j] * total[j] / A(p.n) : A(0);
    }
    for (int64_t at = 0; at < p.n; ++at) {
      const A measured = at < p.k ? A(1) : A(0);
#pragma omp simd
      for (int64_t j = 0; j < c; ++j) {
        const A v = (A(x[at * c + j]) - mean[j]) * measured;
        store(dx[at * c + j], r[j] * gain[j] * A(dy[at * c + j]) - total[j] - v * dot[j]);
      }
    }
  }
}

void check_arguments(const Tensor& x, const OptTensor& gain, const OptTensor& bias, int64_t k) {
  TORCH_CHECK(x.dim() == 3, "x must be (batch, positions, channels), got ", x.sizes());
  TORCH_CHECK(x.size(1) > 0, "x must have a position, got ", x.sizes());
  check_input("x", x);
  check_sizes("gain", gain, {x.size(2)});
  check_sizes("bias", bias, {x.size(2)});
  check_k("k", k, 1, x.size(1));
}

// x (batch, n, channels) -> y like x, statistics (batch, channels) or (2, batch, channels)
std::tuple<Tensor, Tensor> plane_norm(const Tensor& x_, const OptTensor& gain,
                                      const OptTensor& bias, double eps, int64_t k, bool centre) {
  check_arguments(x_, gain, bias, k);
  const Tensor x = x_.contiguous();
  const Planes p(x, k);
  const auto options = x.options().dtype(acc_type(x));
  Tensor y = at::empty_like(x);
  Tensor statistics = centre ? at::empty({2, p.batch, p.channels}, options)
                             : at::empty({p.batch, p.channels}, options);
  const Tensor g = gain_or_ones(gain, p.channels, acc_type(x));
  const Tensor b = bias ? bias->to(acc_type(x)).contiguous() : at::zeros({p.channels}, options);
  const Forward f{x.const_data_ptr(), g.const_data_ptr(), b.const_data_ptr(), address(y),
                  address(statistics), centre ? address(statistics, p.batch) : nullptr, eps};
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using A = typename Acc<T>::type;
    for_chunks(p.batch, p.chunks(), [&](int64_t, int64_t begin, int64_t end) {
      centre ? forward_planes<T, A, true>(p, f, begin, end)
             : forward_planes<T, A, false>(p, f, begin, end);
    });
  });
  return {y, statistics};
}

// -> dx like x; the gradients of gain (channels,), or of gain and bias (2, channels), in the
// statistics' dtype
std::tuple<Tensor, Tensor> plane_norm_backward(const Tensor& dy_, const Tensor& x_,
                                               const OptTensor& gain, const Tensor& statistics_,
                                               int64_t k, bool centre, bool has_bias) {
  check_arguments(x_, gain, {}, k);
  check_sizes("dy", dy_, x_.sizes(), x_.scalar_type());
  const Planes p(x_, k);
  const auto type = acc_type(x_);
  if (centre) check_sizes("statistics", statistics_, {2, p.batch, p.channels}, type);
  else check_sizes("statistics", statistics_, {p.batch, p.channels}, type);
  const Tensor dy = dy_.contiguous(), x = x_.contiguous(), statistics = statistics_.contiguous();
  const Tensor g = gain_or_ones(gain, p.channels, type);
  Tensor dx = at::empty_like(x);
  Tensor partial = at::zeros({2 * p.chunks(), p.channels}, statistics.options());
  const Backward b{dy.const_data_ptr(), x.const_data_ptr(), g.const_data_ptr(),
                   statistics.const_data_ptr(), centre ? address(statistics, p.batch) : nullptr,
                   address(dx), address(partial), address(partial, p.chunks())};
  with_type(x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    using A = typename Acc<T>::type;
    for_chunks(p.batch, p.chunks(), [&](int64_t chunk, int64_t begin, int64_t end) {
      centre ? backward_planes<T, A, true>(p, b, chunk, begin, end)
             : backward_planes<T, A, false>(p, b, chunk, begin, end);
    });
  });
  const Tensor parameters = partial.view({2, p.chunks(), p.channels}).sum(1);
  return {dx, has_bias ? parameters : parameters.select(0, 0).clone()};
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(normlab, m) {
  m.def("plane_norm(Tensor x, Tensor? gain, Tensor? bias, float eps, int k, bool centre)"
        " -> (Tensor, Tensor)");
  m.def("plane_norm_backward(Tensor dy, Tensor x, Tensor? gain, Tensor statistics, int k,"
        " bool centre, bool has_bias) -> (Tensor, Tensor)");
}

TORCH_LIBRARY_IMPL(normlab, CPU, m) {
  m.impl("plane_norm", plane_norm);
  m.impl("plane_norm_backward", plane_norm_backward);
}
