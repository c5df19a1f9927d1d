/* The k highest of every row, the way back through the relaxed draws, and entropies, row by row in the
   processor's first cache: what selection.py, relaxed.py and entropy.py do by calls over the whole tensor. */

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LANES = 16, FEW = 128, PIECE = 4096, TURNS = 12 };

typedef float Lanes __attribute__((vector_size(LANES * sizeof(float))));

/* Of equal order as the number, but whole; the two zeros are equal. */
static inline int32_t whole(float value) {
    int32_t bits;
    value += 0.0f;
    memcpy(&bits, &value, sizeof bits);
    return bits ^ ((bits >> 31) & INT32_MAX);
}

static inline float number(int32_t key) {
    int32_t bits = key ^ ((key >> 31) & INT32_MAX);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static int64_t reaching(const int32_t *keys, int64_t n, int32_t bound) {
    int64_t count = 0;
    for (int64_t start = 0; start < n; start += PIECE) {
        int64_t stop = start + PIECE < n ? start + PIECE : n;
        int32_t here = 0;
        for (int64_t j = start; j < stop; j++) here += keys[j] >= bound;
        count += here;
    }
    return count;
}

/* A bound that at least k keys reach, and few more unless they are equal: halves the distance of
   numbers at first, since keys are dense near 0, and of keys in the end, since that comes to an end. */
static int32_t bound_of(const int32_t *keys, int64_t n, int64_t k) {
    int32_t least = INT32_MAX, most = INT32_MIN;
    for (int64_t j = 0; j < n; j++) {
        least = keys[j] < least ? keys[j] : least;
        most = keys[j] > most ? keys[j] : most;
    }
    int64_t low = least, high = (int64_t)most + 1, count = n; /* count reach low, fewer than k high */
    for (int turn = 0; high - low > 1 && count > k + k / 8; turn++) {
        int64_t middle = low + (high - low) / 2;
        if (turn < TURNS) {
            int64_t between = whole(0.5f * number((int32_t)low) + 0.5f * number((int32_t)(high - 1)));
            middle = between > low && between < high ? between : middle;
        }
        int64_t found = reaching(keys, n, (int32_t)middle);
        if (found >= k) {
            low = middle;
            count = found;
        } else {
            high = middle;
        }
    }
    return (int32_t)low;
}

/* Few are put where their rank is, which is how many are higher; of equal ones the first is higher.
   `keys` has room for LANES more, so that whole vectors are compared. */
static void put_by_rank(int32_t *keys, const int32_t *places, int64_t count, int64_t k,
                        int32_t *sorted) {
    int64_t padded = (count + LANES - 1) / LANES * LANES;
    for (int64_t j = count; j < padded; j++) keys[j] = INT32_MIN;
    for (int64_t i = 0; i < k; i++) sorted[i] = -1;
    for (int64_t i = 0; i < count; i++) {
        int32_t key = keys[i], rank = 0;
        for (int64_t j = 0; j < padded; j++) rank += keys[j] > key;
        while (rank < k && sorted[rank] >= 0) rank++;
        if (rank < k) sorted[rank] = places[i];
    }
}

/* Many are sorted byte by byte, from the last; equal ones keep their order. Memory of `spare` is used. */
static void sort_by_bytes(uint32_t *keys, int32_t *places, int64_t count, uint32_t *spare,
                          int32_t *sorted) {
    int64_t starts[4][257] = {{0}};
    for (int64_t i = 0; i < count; i++) {
        keys[i] ^= INT32_MAX; /* from the highest down, without a sign */
        for (int byte = 0; byte < 4; byte++) starts[byte][(keys[i] >> 8 * byte & 255) + 1]++;
    }
    for (int byte = 0; byte < 4; byte++) {
        int64_t *at = starts[byte];
        for (int each = 0; each < 256; each++) at[each + 1] += at[each];
        uint32_t *from = byte % 2 ? spare : keys, *to = byte % 2 ? keys : spare;
        int32_t *from_places = byte % 2 ? sorted : places, *to_places = byte % 2 ? places : sorted;
        for (int64_t i = 0; i < count; i++) {
            int64_t next = at[from[i] >> 8 * byte & 255]++;
            to[next] = from[i];
            to_places[next] = from_places[i];
        }
    }
    memcpy(sorted, places, count * sizeof *sorted);
}

/* value (rows, n): noise becomes logits + noise; places (rows, k): of the highest in the flat tensor, from
   the highest down; found (rows, k): what is there. 0, or 1 where there is no memory. n is below 2^31. */
int secateur_highest(const float *logits, float *value, int64_t rows, int64_t n, int64_t k,
                     int64_t *places, float *found) {
    int32_t *keys = malloc((4 * n + LANES) * sizeof *keys);
    if (!keys) return 1;
    int32_t *at = keys + n, *sorted = at + n, *kept = sorted + n;
    for (int64_t row = 0; row < rows; row++) {
        float *own = value + row * n;
        for (int64_t j = 0; j < n; j++) {
            own[j] += logits[row * n + j];
            keys[j] = whole(own[j]);
        }
        int32_t bound = bound_of(keys, n, k);
        int64_t count = 0;
        for (int64_t j = 0; j < n; j++) {
            at[count] = (int32_t)j;
            count += keys[j] >= bound;
        }
        for (int64_t i = 0; i < count; i++) kept[i] = keys[at[i]];
        if (count <= FEW) {
            put_by_rank(kept, at, count, k, sorted);
        } else {
            sort_by_bytes((uint32_t *)kept, at, count, (uint32_t *)keys, sorted);
        }
        for (int64_t i = 0; i < k; i++) {
            places[row * k + i] = row * n + sorted[i];
            found[row * k + i] = own[sorted[i]];
        }
    }
    free(keys);
    return 0;
}

/* exp by Taylor's series after 2^whole is split off: without a call, so that rows are vectorised. */
static inline float exp_float(float x) {
    float y = x > -87.0f ? x : -87.0f; /* fminf and fmaxf would be calls */
    y = y < 88.0f ? y : 88.0f;
    float twos = rintf(y * 1.44269504f);
    float r = (y - twos * 0.693359375f) + twos * 2.12194440e-4f;
    float e = 1.0f / 5040;
    e = e * r + 1.0f / 720;
    e = e * r + 1.0f / 120;
    e = e * r + 1.0f / 24;
    e = e * r + 1.0f / 6;
    e = e * r + 0.5f;
    e = e * r + 1.0f;
    e = e * r + 1.0f;
    int32_t bits = ((int32_t)twos + 127) * (1 << 23);
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return x < -87.0f ? 0.0f : e * scale;
}

/* The same in float64, to 1e-11; x is in [0, 700]. */
static inline double exp_double(double x) {
    double shifted = x * 1.4426950408889634 + 6755399441055744.0; /* the last bits hold the nearest */
    double twos = shifted - 6755399441055744.0;
    double r = (x - twos * 0.693145751953125) - twos * 1.42860682030941723e-6;
    double e = 1.0 / 3628800;
    e = e * r + 1.0 / 362880;
    e = e * r + 1.0 / 40320;
    e = e * r + 1.0 / 5040;
    e = e * r + 1.0 / 720;
    e = e * r + 1.0 / 120;
    e = e * r + 1.0 / 24;
    e = e * r + 1.0 / 6;
    e = e * r + 0.5;
    e = e * r + 1.0;
    e = e * r + 1.0;
    uint64_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 1023) << 52;
    double scale;
    memcpy(&scale, &bits, sizeof scale);
    return e * scale;
}

/* Of one row: the sum of z, and of z * factor. */
static void sums(const float *z, const float *factor, int64_t n, double *sum, double *weighted) {
    *sum = *weighted = 0.0;
    for (int64_t start = 0; start < n; start += PIECE) {
        int64_t stop = start + PIECE < n ? start + PIECE : n, j = start;
        Lanes a = {0}, b = {0}, x, y;
        for (; j + LANES <= stop; j += LANES) {
            memcpy(&x, z + j, sizeof x);
            memcpy(&y, factor + j, sizeof y);
            a += x;
            b += x * y;
        }
        for (int lane = 0; lane < LANES; lane++) {
            *sum += a[lane];
            *weighted += b[lane];
        }
        for (; j < stop; j++) {
            *sum += z[j];
            *weighted += z[j] * factor[j];
        }
    }
}

/* d loss / d value through the sum of the relaxed draws, into `out` (rows, n).
   0; 1 where there is no memory; 2 where a row spans more than `span` (of value / temperature). */
int secateur_through_softmax(const float *value, const float *gradient, const int64_t *places,
                             const float *highest, int64_t rows, int64_t n, int64_t k,
                             double inverse, double span, float *out) {
    double *e = malloc(4 * k * sizeof *e), *g = e + k, *share = g + k, *mean = share + k;
    int64_t *drawn = malloc(k * sizeof *drawn);
    int failed = !e || !drawn;
    for (int64_t row = 0; row < rows && !failed; row++) {
        const float *own = value + row * n, *back = gradient + row * n, *high = highest + row * k;
        float *z = out + row * n;
        double top = high[0], most = high[0], left, weighted;
        for (int64_t i = 0; i < k; i++) {
            drawn[i] = places[row * k + i] - row * n;
            g[i] = back[drawn[i]];
            top = high[i] < top ? high[i] : top;
            most = high[i] > most ? high[i] : most;
        }
        if (!((most - top) * inverse < span)) {
            failed = 2;
            break;
        }
        float slope = (float)inverse, least = (float)(top * inverse);
        for (int64_t j = 0; j < n; j++) z[j] = exp_float(own[j] * slope - least);
        for (int64_t i = 0; i < k; i++) z[drawn[i]] = 0.0f;
        sums(z, back, n, &left, &weighted);
        for (int64_t i = 0; i < k; i++) e[i] = exp_double((high[i] - top) * inverse);
        for (int64_t i = k - 1; i >= 0; i--) {
            share[i] = left += e[i];
            mean[i] = weighted += e[i] * g[i];
        }
        for (int64_t i = 0; i < k; i++) {
            share[i] = 1.0 / share[i];
            mean[i] = mean[i] * share[i] * share[i]; /* a square alone could vanish */
        }
        double weight = 0.0, moved = 0.0;
        for (int64_t i = 0; i < k; i++) {
            weight += share[i];
            moved += mean[i];
            e[i] *= (g[i] * weight - moved) * inverse;
        }
        float scale = (float)(weight * inverse), shift = (float)(moved * inverse);
        for (int64_t j = 0; j < n; j++) z[j] *= back[j] * scale - shift;
        for (int64_t i = 0; i < k; i++) z[drawn[i]] = (float)e[i];
    }
    free(e);
    free(drawn);
    return failed;
}

/* Entropy of softmax(row) of logits (rows, n): `found` (rows, 3) is the highest logit, the sum of
   exp(logit - highest), and the entropy. 0, or 1 where there is no memory. */
int secateur_entropy(const float *logits, int64_t rows, int64_t n, double *found) {
    float *x = malloc(2 * n * sizeof *x), *e = x + n;
    if (!x) return 1;
    for (int64_t row = 0; row < rows; row++, logits += n, found += 3) {
        double sum, weighted;
        int32_t highest = INT32_MIN; /* among whole numbers, since those need no order of comparison */
        for (int64_t j = 0; j < n; j++) {
            int32_t key = whole(logits[j]);
            highest = key > highest ? key : highest;
        }
        float most = number(highest);
        for (int64_t j = 0; j < n; j++) {
            x[j] = logits[j] - most;
            e[j] = exp_float(x[j]);
        }
        sums(e, x, n, &sum, &weighted);
        found[0] = most;
        found[1] = sum;
        found[2] = log(sum) - weighted / sum;
    }
    free(x);
    return 0;
}

/* factor (rows,) * d entropy / d logits, into `out` (rows, n). */
void secateur_entropy_back(const float *logits, const double *found, const float *factor, int64_t rows,
                           int64_t n, float *out) {
    for (int64_t row = 0; row < rows; row++, logits += n, found += 3, out += n) {
        float most = (float)found[0], scale = (float)(-factor[row] / found[1]);
        float shift = (float)(found[2] - log(found[1]));
        for (int64_t j = 0; j < n; j++) {
            float x = logits[j] - most;
            out[j] = scale * exp_float(x) * (x + shift);
        }
    }
}
