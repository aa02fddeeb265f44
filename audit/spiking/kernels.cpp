// Event-driven kernels of the spiking engine on a CPU. Plain C interface; kernels.py builds and calls them.
//
// Spikes are sparse: an output of a convolution is the sum of the weight columns of the few inputs that are not zero.
// Images lie channels-last, [N, H, W, C]. A pixel's events are the channels that are not zero there, in ascending
// order; every sum below runs over taps and events in one fixed order, whatever the number of threads and however time
// was cut into chunks, so a result depends on the input alone.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

// One register of the machine that this is compiled for.
#if defined(__AVX512F__)
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#elif defined(__aarch64__)
constexpr int LANES = 4, REGISTERS = 32;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif
typedef float Vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));  // at any address

inline Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
inline void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }

// Writes offset + c for every channel c with x[c] != 0, and x[c] unless value is null, in ascending order.
inline void list_events(const float* x, int64_t channels, int32_t offset, int32_t* index, float* value) {
    int64_t c = 0;
#if defined(__AVX512F__)
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; c + 16 <= channels; c += 16) {
        const __m512 row = _mm512_loadu_ps(x + c);
        const __mmask16 found = _mm512_cmp_ps_mask(row, _mm512_setzero_ps(), _CMP_NEQ_UQ);
        const int count = __builtin_popcount(found);
        const __mmask16 kept = __mmask16((1u << count) - 1);
        const __m512i places = _mm512_add_epi32(lanes, _mm512_set1_epi32(offset + int32_t(c)));
        _mm512_mask_storeu_epi32(index, kept, _mm512_maskz_compress_epi32(found, places));
        index += count;
        if (value) {
            _mm512_mask_storeu_ps(value, kept, _mm512_maskz_compress_ps(found, row));
            value += count;
        }
    }
#endif
    for (; c < channels; c++)
        if (x[c] != 0) {
            *index++ = offset + int32_t(c);
            if (value) *value++ = x[c];
        }
}

struct Geometry {
    int64_t images, height, width, channels, out_height, out_width, out_channels;
    int64_t kernel_height, kernel_width, stride_height, stride_width, pad_height, pad_width;
};

template <int BLOCK>
inline void copy_in(Vec (&to)[BLOCK / LANES], const float* from, int64_t valid) {
    if (valid == BLOCK)
        for (int v = 0; v < BLOCK / LANES; v++) to[v] = load(from + v * LANES);
    else
        std::memcpy(to, from, valid * sizeof(float));
}

template <int BLOCK>
inline void copy_out(float* to, const Vec (&from)[BLOCK / LANES], int64_t valid) {
    if (valid == BLOCK)
        for (int v = 0; v < BLOCK / LANES; v++) store(to + v * LANES, from[v]);
    else
        std::memcpy(to, from, valid * sizeof(float));
}

// BLOCK output channels of one output pixel, from the kernel rows ky ... ky_end - 1: the sums stay in registers.
template <int BLOCK, bool GRADED>
inline void add_events(Vec (&sum)[BLOCK / LANES], const int32_t* first, const int32_t* index, const float* value,
                       const float* weight, const Geometry& g, int64_t n, int64_t oy, int64_t ox, int64_t ky,
                       int64_t ky_end) {
    const int64_t left = ox * g.stride_width - g.pad_width;
    const int64_t from = std::max<int64_t>(left, 0), to = std::min(left + g.kernel_width, g.width);
    for (; ky < ky_end && from < to; ky++) {
        const int64_t y = oy * g.stride_height - g.pad_height + ky;
        if (y < 0 || y >= g.height) continue;
        // Taps of one kernel row are neighbours in the input row: their events follow one another.
        const int64_t row = (n * g.height + y) * g.width;
        const float* taps = weight + (ky * g.kernel_width - left) * g.channels * BLOCK;
        for (int32_t e = first[row + from]; e < first[row + to]; e++)
            for (int v = 0; v < BLOCK / LANES; v++) {
                const Vec w = load(taps + int64_t(index[e]) * BLOCK + v * LANES);
                sum[v] += GRADED ? w * value[e] : w;
            }
    }
}

// With `by_rows` an image is walked over once per kernel row, with the sums so far in `out`: fewer weights are in use at
// a time, and where events are many, that saves more than it costs. Both ways add the same numbers in the same order.
template <int BLOCK, bool GRADED>
void convolve(const int32_t* first, const int32_t* index, const float* value, const float* weight, const float* bias,
              float* out, const Geometry& g, bool by_rows) {
    constexpr int V = BLOCK / LANES;
    const int64_t blocks = (g.out_channels + BLOCK - 1) / BLOCK;
    const int64_t passes = by_rows ? g.kernel_height : 1, rows = by_rows ? 1 : g.kernel_height;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t n = 0; n < g.images; n++) {
            const float* block_weight = weight + block * g.kernel_height * g.kernel_width * g.channels * BLOCK;
            const int64_t valid = std::min<int64_t>(BLOCK, g.out_channels - block * BLOCK);
            for (int64_t pass = 0; pass < passes; pass++)
                for (int64_t oy = 0; oy < g.out_height; oy++)
                    for (int64_t ox = 0; ox < g.out_width; ox++) {
                        float* target = out + ((n * g.out_height + oy) * g.out_width + ox) * g.out_channels + block * BLOCK;
                        Vec sum[V] = {};
                        if (pass > 0)
                            copy_in<BLOCK>(sum, target, valid);
                        else if (bias)
                            copy_in<BLOCK>(sum, bias + block * BLOCK, BLOCK);
                        add_events<BLOCK, GRADED>(sum, first, index, value, block_weight, g, n, oy, ox, pass * rows, (pass + 1) * rows);
                        copy_out<BLOCK>(target, sum, valid);
                    }
        }
}

enum Shape { TRIANGLE, RECTANGLE, ARCTAN, SIGMOID };

template <int SHAPE>
inline float slope(float distance) {
    if (SHAPE == TRIANGLE) {
        const float s = 1 - std::fabs(distance);
        return s > 0 ? s : 0;
    }
    if (SHAPE == RECTANGLE) return std::fabs(distance) <= 0.5f ? 1.0f : 0.0f;
    if (SHAPE == ARCTAN) {
        const float scaled = 1.57079632679489661923f * distance;
        return 1 / (1 + scaled * scaled);
    }
    const float squashed = 1 / (1 + std::exp(-4 * distance));
    return 4 * squashed * (1 - squashed);
}

template <int SHAPE, bool HARD>
void fire_backward(const float* potentials, const float* grad_spikes, float* carried, const float* threshold,
                   int64_t period, float leak, float width, float gain, bool per_threshold, float* grad_current,
                   int64_t steps, int64_t neurons, int64_t begin, int64_t end) {
    for (int64_t t = steps - 1; t >= 0; t--) {
        const float* u = potentials + t * neurons;
        const float* g = grad_spikes + t * neurons;
        float* out = grad_current + t * neurons;
        for (int64_t start = begin; start < end; start += period) {
            const int64_t stop = std::min(end, start + period);
#pragma omp simd
            for (int64_t i = start; i < stop; i++) {
                const float theta = threshold[i - start];
                float s = slope<SHAPE>((u[i] - theta) / (width * theta)) * gain;
                if (per_threshold) s /= theta;
                const float before = HARD && u[i] > theta ? 0 : carried[i];
                const float now = before + g[i] * s;
                out[i] = now;
                carried[i] = leak * now;
            }
        }
    }
}

template <bool HARD, bool KEEP>
int64_t fire(const float* __restrict in, float* __restrict potential, const float* __restrict threshold, float leak,
             float* __restrict out, float* __restrict kept, int64_t neurons) {
    int32_t count = 0;
#pragma omp simd reduction(+ : count)
    for (int64_t i = 0; i < neurons; i++) {
        const float u = leak * potential[i] + in[i];
        const bool fires = u > threshold[i];
        if (KEEP) kept[i] = u;
        out[i] = fires ? 1.0f : 0.0f;
        potential[i] = fires ? (HARD ? 0.0f : u - threshold[i]) : u;
        count += fires;
    }
    return count;
}

constexpr int64_t TILE = 2048;  // neurons whose potential stays in the first-level cache over all time-steps

int64_t tile_of(int64_t period) { return period * std::max<int64_t>(1, TILE / period); }

// The weight gradient holds 9 x GRADIENT_VECS sums in registers while it walks over the events of one input channel.
constexpr int GRADIENT_VECS = REGISTERS > 18 ? 2 : 1, GRADIENT_BLOCK = GRADIENT_VECS * LANES;
constexpr int64_t GRADIENT_CACHE = 512 * 1024;  // bytes of output gradient walked over at once

// Events by image and input channel: those of channel c of image n are start[n * (C + 1) + c] ... start[... + 1] - 1.
struct ByChannel {
    std::vector<int32_t> start, position;  // a position is a pixel of the padded output map
    std::vector<float> value;
};

template <int SIDE, bool GRADED>
void weight_gradient(const ByChannel& events, const float* grad_out, float* result, const Geometry& g, int64_t border_y,
                     int64_t border_x) {
    const int64_t padded_height = g.out_height + 2 * border_y, padded_width = g.out_width + 2 * border_x;
    const int64_t image = padded_height * padded_width * GRADIENT_BLOCK;
    const int64_t group = std::max<int64_t>(1, GRADIENT_CACHE / (image * int64_t(sizeof(float))));
    const int64_t blocks = (g.out_channels + GRADIENT_BLOCK - 1) / GRADIENT_BLOCK;
    constexpr int64_t SPAN = 64;  // input channels per task
    const int64_t spans = (g.channels + SPAN - 1) / SPAN;
#pragma omp parallel for collapse(2) schedule(dynamic)
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t span = 0; span < spans; span++) {
            const int64_t valid = std::min<int64_t>(GRADIENT_BLOCK, g.out_channels - block * GRADIENT_BLOCK);
            // Zeros around every map: then no event needs to ask whether a tap is inside.
            std::vector<float> padded(std::min(group, g.images) * image);
            for (int64_t from = 0; from < g.images; from += group) {
                const int64_t to = std::min(from + group, g.images);
                for (int64_t n = from; n < to; n++)
                    for (int64_t y = 0; y < g.out_height; y++)
                        for (int64_t x = 0; x < g.out_width; x++)
                            std::memcpy(
                                &padded[(n - from) * image + ((y + border_y) * padded_width + x + border_x) * GRADIENT_BLOCK],
                                grad_out + ((n * g.out_height + y) * g.out_width + x) * g.out_channels + block * GRADIENT_BLOCK,
                                valid * sizeof(float));
                for (int64_t c = span * SPAN; c < std::min((span + 1) * SPAN, g.channels); c++) {
                    float* target = result + (block * g.channels + c) * SIDE * SIDE * GRADIENT_BLOCK;
                    Vec sum[SIDE * SIDE][GRADIENT_VECS];
                    for (int k = 0; k < SIDE * SIDE; k++)
                        for (int v = 0; v < GRADIENT_VECS; v++)
                            sum[k][v] = load(target + k * GRADIENT_BLOCK + v * LANES);
                    for (int64_t n = from; n < to; n++) {
                        const int32_t* bounds = &events.start[n * (g.channels + 1) + c];
                        for (int32_t e = bounds[0]; e < bounds[1]; e++) {
                            const float* corner = &padded[(n - from) * image + int64_t(events.position[e]) * GRADIENT_BLOCK];
                            for (int ky = 0; ky < SIDE; ky++)
                                for (int kx = 0; kx < SIDE; kx++)
                                    for (int v = 0; v < GRADIENT_VECS; v++) {
                                        // Tap (ky, kx) took this input to the output (y - ky, x - kx) of the padded map.
                                        const int64_t back = (SIDE - 1 - ky) * padded_width + (SIDE - 1 - kx);
                                        const Vec w = load(corner + back * GRADIENT_BLOCK + v * LANES);
                                        sum[ky * SIDE + kx][v] += GRADED ? w * events.value[e] : w;
                                    }
                        }
                    }
                    for (int k = 0; k < SIDE * SIDE; k++)
                        for (int v = 0; v < GRADIENT_VECS; v++)
                            store(target + k * GRADIENT_BLOCK + v * LANES, sum[k][v]);
                }
            }
        }
}

}  // namespace

extern "C" {

// Events per pixel into counts [pixels]; returns how many there are, and in ones[0] how many of them are exactly 1.
int64_t audit_count_events(const float* x, int64_t pixels, int64_t channels, int32_t* counts, int64_t* ones) {
    int64_t events = 0, unit = 0;
#pragma omp parallel for reduction(+ : events, unit) schedule(static)
    for (int64_t p = 0; p < pixels; p++) {
        const float* row = x + p * channels;
        int32_t here = 0, exact = 0;
#pragma omp simd reduction(+ : here, exact)
        for (int64_t c = 0; c < channels; c++) {
            here += row[c] != 0;
            exact += row[c] == 1;
        }
        counts[p] = here;
        events += here;
        unit += exact;
    }
    ones[0] = unit;
    return events;
}

// Places (and, unless value is null, values) of the events of pixel p into first[p] ... first[p + 1] - 1; a place is
// counted from the beginning of the image's row: x * channels + c.
void audit_list_events(const float* x, int64_t pixels, int64_t width, int64_t channels, const int32_t* first,
                       int32_t* index, float* value) {
#pragma omp parallel for schedule(static)
    for (int64_t p = 0; p < pixels; p++)
        list_events(x + p * channels, channels, int32_t(p % width * channels), index + first[p],
                    value ? value + first[p] : nullptr);
}

// weight [ceil(K / block), kh, kw, C, block] with zeros beyond K, block 16, 32 or 64; bias as long or null; out
// [N, Ho, Wo, K].
void audit_convolve(const int32_t* first, const int32_t* index, const float* value, const float* weight,
                    const float* bias, float* out, const int64_t* geometry, int64_t block, int32_t by_rows) {
    Geometry g;
    std::memcpy(&g, geometry, sizeof g);
    auto run = [&](auto kernel) { kernel(first, index, value, weight, bias, out, g, by_rows != 0); };
    switch (block * 2 + (value != nullptr)) {
        case 32: return run(convolve<16, false>);
        case 33: return run(convolve<16, true>);
        case 64: return run(convolve<32, false>);
        case 65: return run(convolve<32, true>);
        case 128: return run(convolve<64, false>);
        case 129: return run(convolve<64, true>);
    }
}

// Gradient of the weights of a 3x3 convolution with stride 1: grad_out [N, Ho, Wo, K] -> result
// [ceil(K / G), C, 3, 3, G] with G = audit_gradient_block(), which must come as zeros.
int64_t audit_gradient_block() { return GRADIENT_BLOCK; }

void audit_weight_gradient(const int32_t* first, const int32_t* index, const float* value, const float* grad_out,
                           float* result, const int64_t* geometry) {
    Geometry g;
    std::memcpy(&g, geometry, sizeof g);
    constexpr int SIDE = 3;
    const int64_t border_y = SIDE - 1 - g.pad_height, border_x = SIDE - 1 - g.pad_width;
    const int64_t padded_width = g.out_width + 2 * border_x, map = g.height * g.width;
    ByChannel events;
    events.start.resize(g.images * (g.channels + 1));
    events.position.resize(first[g.images * map]);
    events.value.resize(value ? first[g.images * map] : 0);
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < g.images; n++) {
        std::vector<int32_t> next(g.channels + 1, 0);
        for (int32_t e = first[n * map]; e < first[(n + 1) * map]; e++) next[index[e] % g.channels + 1]++;
        next[0] = first[n * map];
        for (int64_t c = 0; c < g.channels; c++) next[c + 1] += next[c];
        std::copy(next.begin(), next.end(), events.start.begin() + n * (g.channels + 1));
        for (int64_t p = 0; p < map; p++)
            for (int32_t e = first[n * map + p]; e < first[n * map + p + 1]; e++) {
                const int32_t place = next[index[e] % g.channels]++;
                events.position[place] = int32_t((p / g.width) * padded_width + p % g.width);
                if (value) events.value[place] = value[e];
            }
    }
    if (value)
        weight_gradient<SIDE, true>(events, grad_out, result, g, border_y, border_x);
    else
        weight_gradient<SIDE, false>(events, grad_out, result, g, border_y, border_x);
}

// The neuron over `steps` time-steps: current [steps, neurons] (with time_stride 0 the same at every step), potential
// [neurons] in and out, spikes [steps, neurons]; the potentials before reset go to `kept` unless it is null.
// threshold [period] repeats over the neurons. Returns the number of spikes.
int64_t audit_fire(const float* current, int64_t time_stride, float* potential, const float* threshold, int64_t period,
                   float leak, int32_t hard, float* spikes, float* kept, int64_t steps, int64_t neurons) {
    const int64_t tile = tile_of(period);
    const int64_t row = period == 1 ? tile : period;
    std::vector<float> repeated(row);
    for (int64_t i = 0; i < row; i++) repeated[i] = threshold[period == 1 ? 0 : i];
    const auto step = hard ? (kept ? fire<true, true> : fire<true, false>) : (kept ? fire<false, true> : fire<false, false>);
    int64_t total = 0;
#pragma omp parallel for reduction(+ : total) schedule(static)
    for (int64_t begin = 0; begin < neurons; begin += tile) {
        const int64_t end = std::min(neurons, begin + tile);
        for (int64_t t = 0; t < steps; t++) {
            const float* in = current + t * time_stride;
            float* out = spikes + t * neurons;
            int64_t count = 0;
            for (int64_t start = begin; start < end; start += row) {
                const int64_t size = std::min(end, start + row) - start;
                float* keep = kept ? kept + t * neurons + start : nullptr;
                count += step(in + start, potential + start, repeated.data(), leak, out + start, keep, size);
            }
            total += count;
        }
    }
    return total;
}

// Gradient of audit_fire: carried [neurons] is the gradient of the last potential and becomes that of the first.
void audit_fire_backward(const float* potentials, const float* grad_spikes, float* carried, const float* threshold,
                         int64_t period, float leak, int32_t hard, int32_t shape, float width, float gain,
                         int32_t per_threshold, float* grad_current, int64_t steps, int64_t neurons) {
    const int64_t tile = tile_of(period);
    const int64_t row = period == 1 ? tile : period;
    std::vector<float> repeated(row);
    for (int64_t i = 0; i < row; i++) repeated[i] = threshold[period == 1 ? 0 : i];
#pragma omp parallel for schedule(static)
    for (int64_t begin = 0; begin < neurons; begin += tile) {
        const int64_t end = std::min(neurons, begin + tile);
        auto run = [&](auto step) {
            step(potentials, grad_spikes, carried, repeated.data(), row, leak, width, gain, per_threshold != 0,
                 grad_current, steps, neurons, begin, end);
        };
        switch (shape * 2 + (hard != 0)) {
            case 0: run(fire_backward<TRIANGLE, false>); break;
            case 1: run(fire_backward<TRIANGLE, true>); break;
            case 2: run(fire_backward<RECTANGLE, false>); break;
            case 3: run(fire_backward<RECTANGLE, true>); break;
            case 4: run(fire_backward<ARCTAN, false>); break;
            case 5: run(fire_backward<ARCTAN, true>); break;
            case 6: run(fire_backward<SIGMOID, false>); break;
            case 7: run(fire_backward<SIGMOID, true>); break;
        }
    }
}

}  // extern "C"
