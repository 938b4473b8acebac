/* Numbers within bounds, as grammars of their digits.  Everything is done on digits: a bound of 30 digits is as exact as one
 * of 3. */
#include <string.h>

#include "text/grammar_json.h"

/* ---- decimals ---- */

enum { EXPONENT_MAX = 1000 };

/* Digits d[n], of which `point` stand in front of the point (it may lie outside), to the normal form. */
static bool place(struct fm_decimal *out, const char *d, int n, int point)
{
    while (n && *d == '0') d++, n--, point--;
    while (n && d[n - 1] == '0') n--;
    if (!n) point = 0;
    if (point > FM_DECIMAL || n - point > FM_DECIMAL) return false;
    out->n_whole = out->n_part = 0;
    for (int i = 0; i < point; i++) out->whole[out->n_whole++] = i < n ? d[i] : '0';
    for (int i = point; i < n; i++) out->part[out->n_part++] = i < 0 ? '0' : d[i];
    if (!out->n_whole) out->whole[out->n_whole++] = '0';
    return true;
}

bool fm_decimal_read(struct fm_decimal *out, struct fm_span t)
{
    char d[256];
    int n = 0, point = -1, power = 0;
    size_t i = t.n && *t.s == '-';
    *out = (struct fm_decimal){.negative = i};
    for (; i < t.n && t.s[i] != 'e' && t.s[i] != 'E'; i++) {
        if (n == sizeof d) return false;
        if (t.s[i] == '.')
            point = n;
        else
            d[n++] = t.s[i];
    }
    if (point < 0) point = n;
    if (i < t.n) {
        const bool down = t.s[++i] == '-';
        if (t.s[i] == '-' || t.s[i] == '+') i++;
        for (; i < t.n && power <= EXPONENT_MAX; i++) power = 10 * power + (t.s[i] - '0');
        point += down ? -power : power;
    }
    if (power > EXPONENT_MAX || !place(out, d, n, point)) return false;
    if (out->n_whole == 1 && *out->whole == '0' && !out->n_part) out->negative = false;
    return true;
}

static int compare_size(const struct fm_decimal *a, const struct fm_decimal *b)
{
    if (a->n_whole != b->n_whole) return a->n_whole < b->n_whole ? -1 : 1;
    const int c = memcmp(a->whole, b->whole, (size_t)a->n_whole), n = a->n_part < b->n_part ? a->n_part : b->n_part,
              p = memcmp(a->part, b->part, (size_t)n);
    return c ? c : p ? p : (a->n_part > b->n_part) - (a->n_part < b->n_part);
}

int fm_decimal_compare(const struct fm_decimal *a, const struct fm_decimal *b)
{
    if (a->negative != b->negative) return a->negative ? -1 : 1;
    return a->negative ? compare_size(b, a) : compare_size(a, b);
}

static bool is_zero(const struct fm_decimal *d) { return d->n_whole == 1 && *d->whole == '0' && !d->n_part; }

static struct fm_decimal nines(int n)
{
    struct fm_decimal d = {.n_whole = n};
    memset(d.whole, '9', (size_t)n);
    return d;
}

/* The size of a whole number, one more. */
static void count_up(struct fm_decimal *d)
{
    int i = d->n_whole;
    while (i && d->whole[i - 1] == '9') d->whole[--i] = '0';
    if (i) {
        d->whole[i - 1]++;
        return;
    }
    memmove(d->whole + 1, d->whole, (size_t)d->n_whole++);
    d->whole[0] = '1';
}

static void count_down(struct fm_decimal *d)
{
    int i = d->n_whole;
    while (d->whole[i - 1] == '0') d->whole[--i] = '9';
    d->whole[i - 1]--;
    if (d->n_whole > 1 && d->whole[0] == '0') memmove(d->whole, d->whole + 1, (size_t)--d->n_whole);
}

/* The whole number next to d, up or down; itself only where it is one and `itself`. */
static struct fm_decimal next_whole(struct fm_decimal d, bool up, bool itself)
{
    const bool was = d.n_part == 0;
    d.n_part = 0;
    if ((was && itself) || (!was && up == d.negative)) /* cut off towards zero is the way wanted */
        ;
    else if (is_zero(&d) && up == d.negative)
        d = (struct fm_decimal){.negative = !up, .n_whole = 1, .whole = "1"};
    else if (up == d.negative)
        count_down(&d);
    else
        count_up(&d);
    if (is_zero(&d)) d.negative = false;
    return d;
}

/* ---- whole numbers that are not negative ---- */

static fm_gnode digit(struct fm_gbuild *b, char lo, char hi)
{
    if (lo > hi) return fm_g_never(b);
    return fm_g_class(b, &(struct fm_grange){(unsigned char)lo, (unsigned char)hi}, 1, false);
}

static fm_gnode any(struct fm_gbuild *b, int min, int max)
{
    return fm_g_repeat(b, digit(b, '0', '9'), (uint32_t)min, (uint32_t)max);
}

/* n digits at least, or at most, those of a. */
static fm_gnode from_on(struct fm_gbuild *b, const char *a, int n)
{
    if (!n) return fm_g_str(b, "");
    return FM_G_ALT(b, FM_G_SEQ(b, digit(b, *a, *a), from_on(b, a + 1, n - 1)),
                    FM_G_SEQ(b, digit(b, (char)(*a + 1), '9'), any(b, n - 1, n - 1)));
}

static fm_gnode up_to(struct fm_gbuild *b, const char *a, int n, char least)
{
    if (!n) return fm_g_str(b, "");
    return FM_G_ALT(b, FM_G_SEQ(b, digit(b, *a, *a), up_to(b, a + 1, n - 1, '0')),
                    FM_G_SEQ(b, digit(b, least, (char)(*a - 1)), any(b, n - 1, n - 1)));
}

static fm_gnode between(struct fm_gbuild *b, const char *lo, const char *hi, int n)
{
    if (!n) return fm_g_str(b, "");
    if (*lo == *hi) return FM_G_SEQ(b, digit(b, *lo, *lo), between(b, lo + 1, hi + 1, n - 1));
    return FM_G_ALT(b, FM_G_SEQ(b, digit(b, *lo, *lo), from_on(b, lo + 1, n - 1)),
                    FM_G_SEQ(b, digit(b, (char)(*lo + 1), (char)(*hi - 1)), any(b, n - 1, n - 1)),
                    FM_G_SEQ(b, digit(b, *hi, *hi), up_to(b, hi + 1, n - 1, '0')));
}

static fm_gnode wholes(struct fm_gbuild *b, const struct fm_decimal *lo, const struct fm_decimal *hi)
{
    if (compare_size(lo, hi) > 0) return fm_g_never(b);
    if (lo->n_whole == hi->n_whole) return between(b, lo->whole, hi->whole, lo->n_whole);
    const bool middle = hi->n_whole - lo->n_whole > 1;
    return FM_G_ALT(b, from_on(b, lo->whole, lo->n_whole),
                    middle ? FM_G_SEQ(b, digit(b, '1', '9'), any(b, lo->n_whole, hi->n_whole - 2)) : fm_g_never(b),
                    up_to(b, hi->whole, hi->n_whole, '1'));
}

/* ---- what stands behind the point ---- */

/* What is left of a bound's digits; none: the digits so far have decided. */
struct edge {
    const char *d;
    int n;
    bool there, open; /* open: not the bound itself */
};
static struct edge rest(struct edge e)
{
    e.d += e.n > 0;
    e.n -= e.n > 0;
    return e;
}

static bool may_stop(struct edge lo, struct edge hi)
{
    return !(lo.there && (lo.n || lo.open)) && !(hi.there && !hi.n && hi.open);
}

/* Digits from here on, at most room; must: at least one. */
static fm_gnode part(struct fm_gbuild *b, struct edge lo, struct edge hi, bool must, int room)
{
    const struct edge none = {.n = 0};
    const fm_gnode stop = !must && may_stop(lo, hi) ? fm_g_str(b, "") : fm_g_never(b);
    const char l = lo.there && lo.n ? *lo.d : '0', h = !hi.there ? '9' : hi.n ? *hi.d : '0';
    if (!lo.there && !hi.there) return any(b, must, room);
    if (room < 1 || l > h) return stop;
    if (l == h)
        return FM_G_ALT(b, stop,
                        FM_G_SEQ(b, digit(b, l, l),
                                 part(b, lo.there ? rest(lo) : none, hi.there ? rest(hi) : none, false, room - 1)));
    fm_gnode kids[4] = {stop, FM_G_SEQ(b, digit(b, (char)(l + lo.there), (char)(h - hi.there)), any(b, 0, room - 1))};
    int n = 2;
    if (lo.there) kids[n++] = FM_G_SEQ(b, digit(b, l, l), part(b, rest(lo), none, false, room - 1));
    if (hi.there) kids[n++] = FM_G_SEQ(b, digit(b, h, h), part(b, none, rest(hi), false, room - 1));
    return fm_g_alt(b, kids, n);
}

static fm_gnode pointed(struct fm_gbuild *b, fm_gnode front, struct edge lo, struct edge hi, int room)
{
    const fm_gnode behind = FM_G_SEQ(b, fm_g_str(b, "."), part(b, lo, hi, true, room));
    return FM_G_SEQ(b, front, may_stop(lo, hi) ? fm_g_maybe(b, behind) : behind);
}

/* ---- both together ---- */

enum { WHOLE_DIGITS = 18, DIGITS = 15 };

static fm_gnode size_between(struct fm_gbuild *b, struct fm_decimal lo, struct fm_decimal hi, bool above, bool below)
{
    const struct edge none = {.n = 0}, l = {lo.part, lo.n_part, true, above}, h = {hi.part, hi.n_part, true, below};
    const int most = lo.n_part > hi.n_part ? lo.n_part : hi.n_part;
    const int room = DIGITS - hi.n_whole > most + 1 ? DIGITS - hi.n_whole : most + 1;
    if (compare_size(&lo, &hi) > 0) return fm_g_never(b);
    const fm_gnode front = fm_g_text(b, lo.whole, (size_t)lo.n_whole);
    const bool same = lo.n_whole == hi.n_whole && !memcmp(lo.whole, hi.whole, (size_t)lo.n_whole);
    if (same) return pointed(b, front, l, h, room);
    const fm_gnode back = fm_g_text(b, hi.whole, (size_t)hi.n_whole), first = pointed(b, front, l, none, room),
                   last = pointed(b, back, none, h, room);
    lo.n_part = hi.n_part = 0;
    count_up(&lo);
    count_down(&hi);
    return FM_G_ALT(b, first, pointed(b, wholes(b, &lo, &hi), none, none, room), last);
}

/* Bounds that are not negative; whole ones are exact already. */
static fm_gnode sizes(struct fm_gbuild *b, const struct fm_decimal *lo, const struct fm_decimal *hi, bool above,
                      bool below, bool whole)
{
    return whole ? wholes(b, lo, hi) : size_between(b, *lo, *hi, above, below);
}

/* A bound where none is given: as far as readers' numbers go, and beyond the other one. */
static struct fm_decimal far_off(const struct fm_decimal *other, bool negative, bool whole)
{
    const int usual = whole ? WHOLE_DIGITS : DIGITS, n = other ? other->n_whole + 1 : 0;
    struct fm_decimal d = nines(n > usual && other->negative == negative ? n : usual);
    d.negative = negative;
    return d;
}

fm_gnode fm_g_number(struct fm_gbuild *b, const struct fm_bounds *bounds, bool whole)
{
    struct fm_decimal lo = bounds->min ? *bounds->min : far_off(bounds->max, true, whole),
                      hi = bounds->max ? *bounds->max : far_off(bounds->min, false, whole);
    const struct fm_decimal zero = {.n_whole = 1, .whole = "0"};
    bool above = bounds->min && bounds->above, below = bounds->max && bounds->below;
    if (whole) {
        lo = next_whole(lo, true, !above);
        hi = next_whole(hi, false, !below);
        above = below = false;
    }
    if (fm_decimal_compare(&lo, &hi) > 0) return fm_g_never(b);
    fm_gnode kids[2];
    int n = 0;
    if (lo.negative) { /* −0 stays out: zero is the other side's */
        const bool to_zero = !hi.negative;
        const struct fm_decimal one = {.n_whole = 1, .whole = "1"};
        const struct fm_decimal *least = !to_zero ? &hi : whole ? &one : &zero;
        kids[n++] = FM_G_SEQ(b, fm_g_str(b, "-"), sizes(b, least, &lo, to_zero || below, above, whole));
    }
    if (!hi.negative) kids[n++] = sizes(b, lo.negative ? &zero : &lo, &hi, !lo.negative && above, below, whole);
    return fm_g_alt(b, kids, n);
}

/* ---- multiples: digits lead from remainder to remainder ---- */

fm_gnode fm_g_multiples(struct fm_gbuild *b, unsigned step, enum fm_sign sign)
{

    static const char digits[] = "0123456789";
    int rules[2][FM_STEP_MAX]; /* of a remainder, with one digit less to come, and with this many */
    fm_gnode kids[10], head[3];
    int n = 0;
    for (int left = 0; left < DIGITS; left++)
        for (unsigned r = 0; r < step; r++) {
            fm_gnode next[11];
            int k = 0;
            for (unsigned d = 0; left && d < 10; d++)
                next[k++] =
                    FM_G_SEQ(b, fm_g_text(b, digits + d, 1), fm_g_rule(b, rules[(left - 1) % 2][(10 * r + d) % step]));
            if (!r) next[k++] = fm_g_str(b, "");
            rules[left % 2][r] = fm_grule_new(b, NULL, 0, 0);
            if (rules[left % 2][r] < 0) return FM_GNODE_NONE;
            fm_grule_define(b, rules[left % 2][r], fm_g_alt(b, next, k));
        }
    for (unsigned d = 1; d < 10; d++)
        kids[n++] = FM_G_SEQ(b, fm_g_text(b, digits + d, 1), fm_g_rule(b, rules[(DIGITS - 1) % 2][d % step]));
    const int above = fm_grule_new(b, NULL, 0, 0);
    if (above < 0) return FM_GNODE_NONE;
    fm_grule_define(b, above, fm_g_alt(b, kids, n));
    n = 0;
    head[n++] = fm_g_rule(b, above);
    if (sign != FM_SIGN_POSITIVE) head[n++] = fm_g_str(b, "0");
    if (sign == FM_SIGN_ANY) head[n++] = FM_G_SEQ(b, fm_g_str(b, "-"), fm_g_rule(b, above));
    return fm_g_alt(b, head, n);
}
