#include "compare.h"

#include "base/fmt.h"

#include <stdlib.h>
#include <string.h>

const char *const metric_names[METRICS] = {
    [METRIC_WALL] = "wall_ns",       [METRIC_CPU] = "cpu_ns",
    [METRIC_RSS] = "peak_rss_bytes", [METRIC_FAULTS] = "minor_faults",
    [METRIC_MAJOR] = "major_faults", [METRIC_SWITCHES] = "context_switches",
    [METRIC_CALL] = "ns_per_call",   [METRIC_LIVE] = "replay_peak_bytes",
};

bool figures_takes_part(const struct results *r, size_t contestant)
{
    return !r->check->left_out[contestant];
}

enum metric figures_time(const struct results *r)
{
    return r->traced ? METRIC_CALL : METRIC_WALL;
}

enum metric figures_memory(const struct results *r)
{
    return r->traced ? METRIC_LIVE : METRIC_RSS;
}

static double value_at(const struct results *r, size_t round, size_t contestant, enum metric m)
{
    return r->samples[round * r->all->count + contestant].value[m];
}

static int double_order(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median_of(const double *sorted, size_t n)
{
    return n == 0 ? 0 : (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

struct spread figures_of(const struct results *r, size_t contestant, enum metric m)
{
    double v[ROUNDS_MAX];
    size_t n = r->rounds;
    if (n == 0)
        return (struct spread){.min = 0};
    for (size_t i = 0; i < n; i++)
        v[i] = value_at(r, i, contestant, m);
    qsort(v, n, sizeof *v, double_order);
    return (struct spread){v[0], median_of(v, n), v[n - 1]};
}

/*
 * How many of the sorted values to leave out at each end. Of n values, that the median lies below
 * the k-th has the chance of fewer than k heads in n throws; both ends together get 5 in 100.
 */
static size_t rank_of(size_t n, bool *known)
{
    double term = 1, sum = 0; /* of 2^n throws: term = choose(n, k) */
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        term /= 2;
    while (k < n / 2 && 2 * (sum + term) <= 0.05) {
        sum += term;
        term = term * (double)(n - k) / (double)(k + 1);
        k++;
    }
    *known = k > 0;
    return k > 0 ? k - 1 : 0;
}

struct ratio figures_ratio(const struct results *r, size_t contestant, enum metric m)
{
    double v[ROUNDS_MAX];
    size_t n = 0;
    struct ratio ratio = {.known = false};
    for (size_t i = 0; i < r->rounds; i++) {
        double base = value_at(r, i, 0, m);
        if (base > 0)
            v[n++] = value_at(r, i, contestant, m) / base;
    }
    if (n == 0)
        return ratio;
    qsort(v, n, sizeof *v, double_order);
    size_t out = rank_of(n, &ratio.known);
    ratio.median = median_of(v, n);
    ratio.low = v[out];
    ratio.high = v[n - 1 - out];
    ratio.differs = ratio.known && (ratio.low > 1 || ratio.high < 1);
    return ratio;
}

size_t figures_best(const struct results *r, enum metric m)
{
    size_t best = 0;
    for (size_t i = 1; i < r->all->count; i++)
        if (figures_takes_part(r, i) && figures_of(r, i, m).median < figures_of(r, best, m).median)
            best = i;
    return best;
}

void figures_text(char out[16], enum metric m, double value)
{
    uint64_t whole = (uint64_t)(value + 0.5);
    switch (m) {
    case METRIC_WALL:
    case METRIC_CPU:
        fmt_time_text(out, whole);
        break;
    case METRIC_RSS:
    case METRIC_LIVE:
        fmt_bytes_text(out, whole);
        break;
    case METRIC_CALL:
        snprintf(out, 16, "%.1f ns", value);
        break;
    default:
        fmt_count_text(out, whole);
    }
}

double figures_in(const char *line, const char *name)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\": ", name);
    const char *at = strstr(line, quoted);
    return at != NULL ? strtod(at + strlen(quoted), NULL) : 0;
}
