/* The loops over text that Python is too slow for: one pass that folds, tokenises and hashes, and what is done with its hashes.
 *
 * `kernel.py` is the door: it says what each function takes and gives, and owns all memory but what is freed here before a function
 * returns. Nothing here knows of files, rows or Python. Texts are UTF-8 and, where they are not ASCII, folded already (NFKC, case).
 * A function that returns a negative number ran out of memory.
 */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#if defined(__x86_64__) && defined(__gnu_linux__) && !defined(__clang__)
#define WIDE __attribute__((target_clones("avx512f", "avx2", "default"))) /* one build, the widest registers of the machine it runs on */
#else
#define WIDE
#endif

#define VERSION 6

typedef uint8_t u8;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

enum { SPACE, WORD, SIGN, DROPPED, ALONE, CONTINUED }; /* classes of characters, see kernel.py */

EXPORT int sd_version(void) { return VERSION; }

/* ---- hashes ---- */

static inline u64 rotl(u64 x, int r) { return (x << r) | (x >> (64 - r)); }

static inline u64 mix(u64 h) { /* the finaliser of MurmurHash3 (Appleby, public domain) */
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdULL;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ULL;
    return h ^ (h >> 33);
}

static inline u64 load64(const u8 *p) {
    u64 x;
    memcpy(&x, p, 8);
    return x;
}

static inline u64 load_tail(const u8 *p, size_t n) { /* n < 8 */
    u64 x = 0;
    memcpy(&x, p, n);
    return x;
}

static void murmur128(const u8 *p, size_t n, u64 *out) { /* MurmurHash3_x64_128, seed 0 (Appleby, public domain) */
    const u64 c1 = 0x87c37b91114253d5ULL, c2 = 0x4cf5ad432745937fULL;
    u64 h1 = 0, h2 = 0, k1, k2;
    size_t blocks = n / 16;
    for (size_t i = 0; i < blocks; i++) {
        k1 = load64(p + 16 * i);
        k2 = load64(p + 16 * i + 8);
        h1 = (rotl(h1 ^ (rotl(k1 * c1, 31) * c2), 27) + h2) * 5 + 0x52dce729;
        h2 = (rotl(h2 ^ (rotl(k2 * c2, 33) * c1), 31) + h1) * 5 + 0x38495ab5;
    }
    const u8 *tail = p + 16 * blocks;
    size_t left = n & 15;
    if (left > 8) h2 ^= rotl(load_tail(tail + 8, left - 8) * c2, 33) * c1;
    if (left) h1 ^= rotl((left >= 8 ? load64(tail) : load_tail(tail, left)) * c1, 31) * c2;
    h1 ^= n;
    h2 ^= n;
    h1 += h2;
    h2 += h1;
    h1 = mix(h1);
    h2 = mix(h2);
    h1 += h2;
    h2 += h1;
    out[0] = h1;
    out[1] = h2;
}

static inline u64 mask(size_t n) { return n >= 8 ? ~0ULL : (1ULL << (8 * n)) - 1; } /* the first n bytes */

static inline u64 word_hash(const u8 *p, size_t n) { /* up to 16 bytes behind the word's beginning are read, and masked */
    u64 h = 0x9e3779b97f4a7c15ULL * n;
    for (; n > 16; p += 8, n -= 8) h = rotl(h ^ load64(p), 29) * 0xbf58476d1ce4e5b9ULL;
    u64 low = load64(p) & mask(n), high = load64(p + 8) & mask(n > 8 ? n - 8 : 0);
    return mix((h ^ low) * 0xbf58476d1ce4e5b9ULL + rotl(high * 0x94d049bb133111ebULL, 31));
}

/* ---- the pass ---- */

/* Decodes one character of valid UTF-8. */
static inline u32 character(const u8 *p, size_t *width) {
    if (p[0] < 0x80) return *width = 1, p[0];
    if (p[0] < 0xe0) return *width = 2, (u32)(p[0] & 31) << 6 | (p[1] & 63);
    if (p[0] < 0xf0) return *width = 3, (u32)(p[0] & 15) << 12 | (u32)(p[1] & 63) << 6 | (p[2] & 63);
    return *width = 4, (u32)(p[0] & 7) << 18 | (u32)(p[1] & 63) << 12 | (u32)(p[2] & 63) << 6 | (p[3] & 63);
}

#define BLOCK 32

/* Whether a block is ASCII whose only white space is single blanks; `before` is the byte in front of it. No branches: it is vectorised. */
static inline int plain(const u8 *p, u8 before) {
    u8 odd = (u8)((before == ' ') & (p[0] == ' '));
    for (int j = 0; j < BLOCK; j++) odd |= (u8)(p[j] >> 7 | ((u8)(p[j] - '\t') < 5) | ((u8)(p[j] - 0x1c) < 4));
    for (int j = 1; j < BLOCK; j++) odd |= (u8)((p[j - 1] == ' ') & (p[j] == ' '));
    return !odd;
}

/* Copies text[0..n) to `out` (room for n) with A-Z lowered and runs of white space as one space, none at the ends, and the class of each
 * character to `kinds` (of one of several bytes at the first, CONTINUED behind it); the bytes written. */
WIDE static size_t fold(const u8 *text, size_t n, const u8 *classes, u8 *out, u8 *kinds) {
    size_t size = 0, width = 1;
    unsigned gap = 1; /* the last character was white space, or there was none */
    for (size_t i = 0; i < n;) {
        for (; i + BLOCK <= n && plain(text + i, gap ? ' ' : 0); i += BLOCK, size += BLOCK) { /* nearly all of most texts */
            for (int j = 0; j < BLOCK; j++) out[size + j] = (u8)(text[i + j] + ((u8)(text[i + j] - 'A') < 26) * 32);
            for (int j = 0; j < BLOCK; j++) kinds[size + j] = classes[text[i + j]];
            gap = text[i + BLOCK - 1] == ' ';
        }
        for (size_t end = i + BLOCK < n ? i + BLOCK : n; i < end; i += width) {
            if (text[i] < 0x80) { /* no branches: where words end cannot be foretold */
                u8 c = text[i], kind = classes[c];
                unsigned space = kind == SPACE;
                out[size] = space ? ' ' : (u8)(c + ((unsigned)(c - 'A') < 26u) * 32);
                kinds[size] = kind;
                size += !(space & gap);
                gap = space;
                width = 1;
                continue;
            }
            u32 c = character(text + i, &width);
            u8 kind = classes[c];
            if (kind == SPACE) {
                out[size] = ' ';
                kinds[size] = SPACE;
                size += !gap;
                gap = 1;
                continue;
            }
            for (size_t j = 0; j < width; j++) {
                kinds[size] = j ? (kind == WORD ? WORD : CONTINUED) : kind;
                out[size++] = text[i + j];
            }
            gap = 0;
        }
    }
    return size > 0 && gap ? size - 1 : size;
}

/* Which of 64 bytes are not of a kind. */
static inline u64 others(const u8 *kinds, u8 kind) {
    u64 found = 0;
    for (int i = 0; i < 64; i += 8) {
        u64 x = load64(kinds + i) ^ (kind * 0x0101010101010101ULL);
        x = (x | ((x & 0x7f7f7f7f7f7f7f7fULL) + 0x7f7f7f7f7f7f7f7fULL)) & 0x8080808080808080ULL; /* the top bit where a byte is not 0 */
        found |= (x >> 7) * 0x0102040810204080ULL >> 56 << i;
    }
    return found;
}

/* The hashes of the words of a folded text; how many. Behind the text there is room for 64 bytes more in both arrays. *compound is set
 * where joining may make other words of them: somewhere a word or sign may touch another. */
static i64 tokens(const u8 *text, u8 *kinds, size_t n, u64 *words, int *compound) {
    i64 count = 0;
    size_t begin = 0;
    unsigned touches = 0;
    memset(kinds + n, SPACE, 64);
    for (size_t block = 0; block <= n; block += 64) {
        u64 ends = others(kinds + block, WORD);
        for (; ends; ends &= ends - 1) { /* each character that is no part of a word ends one, if only an empty one */
            size_t at = block + (size_t)__builtin_ctzll(ends);
            if (at > n) break;
            size_t end = at;
            unsigned sign = kinds[at] == SIGN, behind = end > begin, before = kinds[at + 1] != SPACE;
            touches |= (kinds[at] != SPACE) & ((sign & (behind | before)) | (behind & before));
            while (begin < end && text[begin] == '\'') begin++; /* quotation marks around a word, not those within */
            while (begin < end && text[end - 1] == '\'') end--;
            if (end > begin && !(end - begin == 1 && text[begin] == '_')) words[count++] = word_hash(text + begin, end - begin);
            begin = at + 1;
            if (kinds[at] == SIGN || kinds[at] == ALONE) {
                while (kinds[begin] == CONTINUED) begin++;
                words[count++] = word_hash(text + at, begin - at);
            }
        }
    }
    *compound = (int)touches;
    return count;
}

/* Makes one word of all that stands between blanks, but for punctuation at its ends. */
static void join(u8 *kinds, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (kinds[i] != WORD && kinds[i] != SIGN) continue;
        size_t last = i;
        for (size_t j = i; j < n && kinds[j] != SPACE && kinds[j] != ALONE; j++)
            if (kinds[j] != DROPPED && (kinds[j] != CONTINUED || last + 1 == j)) last = j; /* the end of a sign is a part of it */
        memset(kinds + i, WORD, last + 1 - i);
        i = last;
    }
}

/* For each of n texts (text[offsets[i]..offsets[i+1])): the 128-bit key of its folded text to keys[2i], the hashes of its words to `words`,
 * those of text i from starts[i] to starts[i+1]; and those of its joined words to `joined`, from joints[i] to joints[i+1]. Both have room
 * for one word a byte; where one is NULL, no such words are looked for. */
EXPORT i64 sd_read(const u8 *text, const i64 *offsets, i64 n, const u8 *classes, u64 *keys, u64 *words, i64 *starts, u64 *joined, i64 *joints) {
    size_t longest = 0;
    for (i64 i = 0; i < n; i++)
        if ((size_t)(offsets[i + 1] - offsets[i]) > longest) longest = (size_t)(offsets[i + 1] - offsets[i]);
    u8 *folded = calloc(2, longest + 128), *kinds = folded + longest + 128;
    if (!folded) return -1;
    i64 count = 0, whole = 0;
    for (i64 i = 0; i < n; i++) {
        size_t size = fold(text + offsets[i], (size_t)(offsets[i + 1] - offsets[i]), classes, folded, kinds);
        int compound = 0;
        murmur128(folded, size, keys + 2 * i);
        starts[i] = count;
        if (words) count += tokens(folded, kinds, size, words + count, &compound);
        if (!joined) continue;
        joints[i] = whole;
        if (compound) {
            join(kinds, size);
            whole += tokens(folded, kinds, size, joined + whole, &compound);
        } else {
            memcpy(joined + whole, words + starts[i], (size_t)(count - starts[i]) * sizeof *words);
            whole += count - starts[i];
        }
    }
    starts[n] = count;
    if (joined) joints[n] = whole;
    free(folded);
    return 0;
}

#define P 0x9e3779b97f4a7c15ULL /* odd: a run of words is a polynomial in it modulo 2^64, then mixed */

static inline u64 run_hash(const u64 *words, i64 width) {
    u64 h = 0;
    for (i64 i = 0; i < width; i++) h = h * P + words[i];
    return mix(h);
}

static inline u64 power_of(i64 width) {
    u64 power = 1;
    for (i64 i = 0; i < width; i++) power *= P;
    return power;
}

/* The shingles of each text, in their order, from shingles[out[i]] to shingles[out[i+1]]: the upper halves of the hashes of its runs of
 * `width` words; of a text with fewer words one, from its key. whole[i] is a 64-bit hash that stands for the text where it has one
 * shingle, else 0. */
EXPORT void sd_shingles(const u64 *words, const i64 *starts, const u64 *keys, i64 n, i64 width, u32 *shingles, i64 *out, u64 *whole) {
    i64 count = 0;
    u64 power = power_of(width);
    for (i64 i = 0; i < n; i++) {
        i64 size = starts[i + 1] - starts[i];
        out[i] = count;
        whole[i] = 0;
        if (size < width) {
            shingles[count++] = (u32)(mix(keys[2 * i]) >> 32);
            whole[i] = keys[2 * i] | 1;
            continue;
        }
        if (size == width) whole[i] = run_hash(words + starts[i], width) | 1;
        u64 rolling = 0;
        for (i64 j = starts[i]; j < starts[i + 1]; j++) {
            rolling = rolling * P + words[j];
            if (j - starts[i] >= width) rolling -= power * words[j - width];
            if (j - starts[i] + 1 >= width) shingles[count++] = (u32)(mix(rolling) >> 32);
        }
    }
    out[n] = count;
}

/* ---- sets ---- */

static void insertion_sort(u32 *a, i64 n) {
    for (i64 i = 1; i < n; i++) {
        u32 x = a[i];
        i64 j = i;
        for (; j > 0 && a[j - 1] > x; j--) a[j] = a[j - 1];
        a[j] = x;
    }
}

static void sort32(u32 *a, i64 n) {
    while (n > 24) { /* the values are hashes: the middle one of three splits well */
        u32 x = a[0], y = a[n / 2], z = a[n - 1];
        u32 pivot = x < y ? (y < z ? y : (x < z ? z : x)) : (x < z ? x : (y < z ? z : y));
        i64 i = -1, j = n;
        for (;;) {
            do i++; while (a[i] < pivot);
            do j--; while (a[j] > pivot);
            if (i >= j) break;
            u32 swap = a[i];
            a[i] = a[j];
            a[j] = swap;
        }
        i64 left = j + 1;
        if (left < n - left) {
            sort32(a, left);
            a += left;
            n -= left;
        } else {
            sort32(a + left, n - left);
            n = left;
        }
    }
    insertion_sort(a, n);
}

/* Sorts each text's shingles in place and closes the gaps that repeated ones leave; starts is made to fit. */
EXPORT void sd_sets(u32 *shingles, i64 *starts, i64 n) {
    i64 count = 0, begin = starts[0];
    for (i64 i = 0; i < n; i++) {
        i64 end = starts[i + 1];
        sort32(shingles + begin, end - begin);
        starts[i] = count;
        for (i64 j = begin; j < end; j++)
            if (j == begin || shingles[j] != shingles[j - 1]) {
                u32 x = shingles[j];
                shingles[count++] = x;
            }
        begin = end;
    }
    starts[n] = count;
}

static i64 shared(const u32 *a, i64 na, const u32 *b, i64 nb, i64 wanted) {
    i64 found = 0, i = 0, j = 0;
    while (i < na && j < nb) {
        if (found + (na - i < nb - j ? na - i : nb - j) < wanted) return 0; /* cannot be reached any more */
        u32 x = a[i], y = b[j];
        found += x == y;
        i += x <= y;
        j += y <= x;
    }
    return found >= wanted ? found : 0;
}

static inline int reaches(i64 common, i64 total, double threshold) { /* total = |a| + |b| */
    return (double)common / (double)(total - common) >= threshold;
}

/* The smallest |a & b| with which |a & b| / |a | b| >= threshold. */
static inline i64 least_shared(i64 total, double threshold) {
    i64 wanted = (i64)(threshold * (double)total / (1.0 + threshold));
    while (wanted > 0 && reaches(wanted - 1, total, threshold)) wanted--;
    while (!reaches(wanted, total, threshold)) wanted++;
    return wanted;
}

static int near(const u32 *a, i64 na, const u32 *b, i64 nb, double threshold) {
    i64 small = na < nb ? na : nb, wanted;
    if (!reaches(small, na + nb, threshold)) return 0;
    wanted = least_shared(na + nb, threshold);
    return wanted == 0 || shared(a, na, b, nb, wanted) >= wanted;
}

/* ---- shingles that many rows have ---- */

#define CELLS (1u << 22)

static inline u32 cell(u32 shingle, int row) { return (u32)(mix(shingle ^ (row ? 0xa5a5a5a500000000ULL : 0)) >> 42); }

/* Counts each text's shingles once in a count-min sketch of two rows (Cormode and Muthukrishnan 2005): u32 counts[2 * 2^22]. */
EXPORT i64 sd_count(const u32 *shingles, const i64 *starts, i64 n, u32 *counts) {
    u32 *set = NULL;
    i64 room = 0;
    for (i64 i = 0; i < n; i++) {
        i64 size = starts[i + 1] - starts[i];
        if (size > room) {
            free(set);
            set = malloc((size_t)(room = 2 * size) * 4);
            if (!set) return -1;
        }
        memcpy(set, shingles + starts[i], (size_t)size * 4);
        sort32(set, size);
        for (i64 j = 0; j < size; j++)
            if (j == 0 || set[j] != set[j - 1]) {
                counts[cell(set[j], 0)]++;
                counts[CELLS + cell(set[j], 1)]++;
            }
    }
    free(set);
    return 0;
}

static inline u32 counted(const u32 *counts, u32 shingle) {
    u32 a = counts[cell(shingle, 0)], b = counts[CELLS + cell(shingle, 1)];
    return a < b ? a : b;
}

/* Leaves out, in place, the shingles that more than `most` rows have. A text that would lose more than half of them, and has fewer than
 * `width` words that none of these covers, stays whole. `whole` is 0 where a text was cut. */
EXPORT void sd_cut(u32 *shingles, i64 *starts, i64 n, i64 width, const u32 *counts, u32 most, u64 *whole) {
    i64 count = 0, begin = starts[0];
    for (i64 i = 0; i < n; i++) {
        i64 end = starts[i + 1], size = end - begin, common = 0, own = 0, covered = 0;
        for (i64 j = begin; j < end + width - 1; j++) { /* over the words: word j is in the shingles j - width + 1 to j */
            if (j < end && counted(counts, shingles[j]) > most) covered = j + width, common++;
            own += j >= covered;
        }
        int cut = common > 0 && common < size && (2 * common <= size || own >= width);
        starts[i] = count;
        for (i64 j = begin; j < end; j++) {
            u32 x = shingles[j];
            if (!cut || counted(counts, x) <= most) shingles[count++] = x;
        }
        if (cut) whole[i] = 0;
        begin = end;
    }
    starts[n] = count;
}

/* ---- MinHash ---- */

#define LANES 32 /* minima that are kept in registers at once */

WIDE static void least(const u32 *shingles, i64 n, const u32 *a, const u32 *b, u32 *out) {
    u32 minima[LANES];
    for (int j = 0; j < LANES; j++) minima[j] = UINT32_MAX;
    for (i64 i = 0; i < n; i++) {
        u32 x = shingles[i];
        for (int j = 0; j < LANES; j++) {
            u32 h = a[j] * x + b[j];
            minima[j] = h < minima[j] ? h : minima[j];
        }
    }
    memcpy(out, minima, sizeof minima);
}

/* The k minima (a multiple of 32) of each text's shingles under h_j(x) = a_j x + b_j modulo 2^32, a_j odd: out[i * k + j]. */
EXPORT void sd_minhash(const u32 *shingles, const i64 *starts, i64 n, const u32 *a, const u32 *b, i64 k, u32 *out) {
    for (i64 i = 0; i < n; i++)
        for (i64 j = 0; j < k; j += LANES) least(shingles + starts[i], starts[i + 1] - starts[i], a + j, b + j, out + i * k + j);
}

/* Band keys: keys[band * stride + i] of text i hashes `rows` minima of the one side and, where there is one, `rows2` of the other. */
EXPORT void sd_bands(const u32 *minima, i64 k, i64 rows, const u32 *minima2, i64 k2, i64 rows2, i64 n, i64 bands, u32 *keys, i64 stride) {
    for (i64 i = 0; i < n; i++)
        for (i64 band = 0; band < bands; band++) {
            u64 h = (u64)band + 1;
            for (i64 j = 0; j < rows; j++) h = rotl(h ^ minima[i * k + band * rows + j], 27) * P;
            for (i64 j = 0; j < rows2; j++) h = rotl(h ^ minima2[i * k2 + band * rows2 + j], 27) * P;
            keys[band * stride + i] = (u32)(mix(h) >> 32);
        }
}

/* Which of n keys are there more than once. */
EXPORT i64 sd_repeated(const u32 *keys, i64 n, u8 *out) {
    u64 size = 16;
    while (size < 2 * (u64)n) size *= 2;
    u32 *first = calloc((size_t)size, 4); /* the number of the first row with a key, plus one */
    if (!first) return -1;
    for (i64 i = 0; i < n; i++) {
        u64 place = (keys[i] * 0x9e3779b97f4a7c15ULL) >> 20 & (size - 1);
        while (first[place] && keys[first[place] - 1] != keys[i]) place = (place + 1) & (size - 1);
        if (first[place])
            out[i] = out[first[place] - 1] = 1;
        else
            first[place] = (u32)i + 1;
    }
    free(first);
    return 0;
}

/* ---- which rows stay ---- */

typedef struct {
    const u32 *shingles; /* sorted sets */
    const i64 *starts;
    const u64 *whole; /* not 0: the text has one shingle, and this stands for it in 64 bits */
} Side;

static inline int alike(const Side *side, i64 i, i64 j, double threshold) {
    if (side->whole[i] && side->whole[j]) return side->whole[i] == side->whole[j];
    const i64 *s = side->starts;
    return near(side->shingles + s[i], s[i + 1] - s[i], side->shingles + s[j], s[j + 1] - s[j], threshold);
}

/* Rows stand from the best to the worst. Each is compared with the rows that were kept before it and share a band key with it, but for those
 * of its own group: instead[i] is the first of these that is near it on both sides, or -1, and then row i is kept. keys[band * n + i].
 * `shingles2` may be NULL. */
EXPORT i64 sd_keep(const u32 *keys, i64 bands, i64 n, const u64 *group, const u32 *shingles, const i64 *starts, const u64 *whole,
                   const u32 *shingles2, const i64 *starts2, const u64 *whole2, double threshold, i64 *instead) {
    Side one = {shingles, starts, whole}, two = {shingles2, starts2, whole2};
    u64 size = 16;
    while (size < (u64)n) size *= 2;
    u32 *heads = calloc((size_t)(size * (u64)bands), 4), *next = malloc((size_t)(n * bands + 1) * 4), *seen = calloc((size_t)n + 1, 4);
    i64 *found = malloc((size_t)n * sizeof(i64) + 8);
    if (!heads || !next || !seen || !found) {
        free(heads), free(next), free(seen), free(found);
        return -1;
    }
    i64 checks = 0;
    for (i64 i = 0; i < n; i++) {
        i64 best = -1;
        for (i64 band = 0; band < bands; band++) {
            u32 key = keys[band * n + i];
            u32 at = heads[(u64)band * size + ((key * 0x9e3779b1u) & (size - 1))];
            for (; at; at = next[band * n + at - 1]) {
                i64 other = (i64)at - 1;
                if (keys[band * n + other] != key || seen[other] == (u32)i + 1) continue;
                seen[other] = (u32)i + 1;
                if (group[other] == group[i]) continue;
                checks++;
                if (!alike(&one, i, other, threshold) || (shingles2 && !alike(&two, i, other, threshold))) continue;
                if (best < 0 || other < best) best = other;
            }
        }
        instead[i] = best;
        if (best >= 0) continue;
        for (i64 band = 0; band < bands; band++) {
            u32 *head = heads + (u64)band * size + ((keys[band * n + i] * 0x9e3779b1u) & (size - 1));
            next[band * n + i] = *head;
            *head = (u32)i + 1;
        }
    }
    free(heads), free(next), free(seen), free(found);
    return checks;
}

#define PASSED 4096 /* rows that are known to be near another, after which a row that is so too looks no further in a bucket */

/* Which of n rows are near another, of another group and with another answer: touched[i]. Each row is held against those before it that share
 * a band key, but not against one of which it is known already when it is known of both. */
EXPORT i64 sd_touched(const u32 *keys, i64 bands, i64 n, const u64 *group, const u64 *answers, const u32 *shingles, const i64 *starts,
                      const u64 *whole, double threshold, u8 *touched) {
    Side one = {shingles, starts, whole};
    u64 size = 16;
    while (size < (u64)n) size *= 2;
    u32 *heads = calloc((size_t)(size * (u64)bands), 4), *next = malloc((size_t)(n * bands + 1) * 4), *seen = calloc((size_t)n + 1, 4);
    if (!heads || !next || !seen) {
        free(heads), free(next), free(seen);
        return -1;
    }
    memset(touched, 0, (size_t)n);
    for (i64 i = 0; i < n; i++)
        for (i64 band = 0; band < bands; band++) {
            u32 key = keys[band * n + i], *head = heads + (u64)band * size + ((key * 0x9e3779b1u) & (size - 1)), at = *head;
            for (i64 passed = 0; at && passed < PASSED; at = next[band * n + at - 1]) {
                i64 other = (i64)at - 1;
                if (touched[i] && touched[other]) {
                    passed++;
                    continue;
                }
                if (keys[band * n + other] != key || seen[other] == (u32)i + 1) continue;
                seen[other] = (u32)i + 1;
                if (group[other] != group[i] && answers[other] != answers[i] && alike(&one, i, other, threshold))
                    touched[i] = touched[other] = 1;
            }
            next[band * n + i] = *head;
            *head = (u32)i + 1;
        }
    free(heads), free(next), free(seen);
    return 0;
}

/* ---- what the rows share with prompts that nobody may be trained on ---- */

/* Three bits of a word of a Bloom filter, chosen by a hash; one word for eight places of the table. */
static inline u64 bits_of(u64 h) { return 1ULL << (h >> 58) | 1ULL << (h >> 52 & 63) | 1ULL << (h >> 46 & 63); }
static inline u64 word_of(u64 h, i64 size) { return h >> 3 & (u64)(size / 8 - 1); }

/* Puts the runs of `width` words of n texts into a table of `size` (a power of two, 16 or more) places: hashes, and the first text that has
 * each (by number, -1 is an empty place). marks, of size / 8, is a blocked Bloom filter (Putze, Sanders and Singler 2007). */
EXPORT void sd_runs(const u64 *words, const i64 *starts, i64 n, i64 width, u64 *hashes, i32 *owner, u64 *marks, i64 size) {
    for (i64 i = 0; i < n; i++)
        for (i64 j = starts[i]; j + width <= starts[i + 1]; j++) {
            u64 h = run_hash(words + j, width), place = h & (u64)(size - 1);
            while (owner[place] >= 0 && hashes[place] != h) place = (place + 1) & (u64)(size - 1);
            if (owner[place] >= 0) continue;
            hashes[place] = h;
            owner[place] = (i32)i;
            marks[word_of(h, size)] |= bits_of(h);
        }
}

/* For each text the first run of `width` words that is in the table: whose it is (-1: none) and where it begins, in words. */
EXPORT void sd_overlaps(const u64 *words, const i64 *starts, i64 n, i64 width, const u64 *hashes, const i32 *owner, const u64 *marks,
                        i64 size, i32 *hit, i64 *where) {
    u64 power = power_of(width);
    for (i64 i = 0; i < n; i++) {
        hit[i] = -1;
        where[i] = -1;
        u64 rolling = 0;
        for (i64 j = starts[i]; j < starts[i + 1]; j++) {
            rolling = rolling * P + words[j];
            if (j - starts[i] >= width) rolling -= power * words[j - width];
            if (j - starts[i] + 1 < width) continue;
            u64 h = mix(rolling);
            if (~marks[word_of(h, size)] & bits_of(h)) continue;
            u64 place = h & (u64)(size - 1);
            while (owner[place] >= 0 && hashes[place] != h) place = (place + 1) & (u64)(size - 1);
            if (owner[place] >= 0) {
                hit[i] = owner[place];
                where[i] = j - width + 1 - starts[i];
                break;
            }
        }
    }
}

/* A bag of words is a set of elements: base for a word's first occurrence, base + 1 for its second, up to room[base], the most that any
 * prompt has; the rarer a word, the smaller its elements. known and base are a table of `size` places (a power of two; base -1: empty).
 * Prompt y has the sorted elements own[y]..own[y+1], and element e is in the prefix of the prompts posted[e]..posted[e+1]. */
static i64 elements_of(const u64 *words, i64 n, const u64 *known, const i32 *base, i64 size, const i32 *room, u32 *out) {
    i64 found = 0, kept = 0, repeat = 0;
    for (i64 i = 0; i < n; i++) {
        u64 place = words[i] & (u64)(size - 1);
        while (base[place] >= 0 && known[place] != words[i]) place = (place + 1) & (u64)(size - 1);
        if (base[place] >= 0) out[found++] = (u32)base[place];
    }
    sort32(out, found);
    u32 last = UINT32_MAX;
    for (i64 i = 0; i < found; i++) {
        u32 word = out[i];
        repeat = word == last ? repeat + 1 : 0;
        last = word;
        if (repeat < room[word]) out[kept++] = word + (u32)repeat;
    }
    return kept; /* sorted: the elements of a word lie between its base and that of the next */
}

/* For each text of at least `fewest` words the prompt (of at most `longest`) whose bag of words it shares most of, where that is at least `threshold` (Jaccard
 * over bags; ties to the smallest number), else -1. Exact: two bags that share that much share `both` (1 or 2) elements of their prefixes,
 * the |x| - ceil(t |x|) + both rarest ones (Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search"; Wang, Li and Feng 2012,
 * "Can we beat the prefix filtering?", for 2). */
EXPORT i64 sd_bags(const u64 *words, const i64 *starts, i64 n, i64 fewest, i64 longest, i64 both, double threshold, const u64 *known, const i32 *base, i64 size,
                   const i32 *room, const u32 *elements, const i64 *own, const i32 *prompts, const i64 *posted, i64 count, i32 *hit,
                   double *share) {
    u32 *mine = NULL;
    i64 *seen = calloc((size_t)count + 1, sizeof(i64)), capacity = 0;
    if (!seen) return -1;
    for (i64 i = 0; i < n; i++) {
        i64 all = starts[i + 1] - starts[i];
        hit[i] = -1;
        share[i] = 0;
        if (all < fewest || (all > longest && !reaches(longest, all + longest, threshold))) continue; /* too long for any */
        if (all > capacity) {
            free(mine);
            mine = malloc((size_t)(capacity = 2 * all) * 4);
            if (!mine) return free(seen), -1;
        }
        i64 held = elements_of(words + starts[i], all, known, base, size, room, mine);
        i64 must = (i64)(threshold * (double)all - 1e-6), prefix = all - must + both - 1 - (all - held); /* those that no prompt has come first */
        for (i64 p = 0; p < held && p < prefix; p++)
            for (i64 q = posted[mine[p]]; q < posted[mine[p] + 1]; q++) {
                i32 y = prompts[q];
                seen[y] = seen[y] >> 2 == i + 1 ? seen[y] + ((seen[y] & 3) < 3) : (i + 1) << 2 | 1;
                if ((seen[y] & 3) != both) continue; /* not yet, or looked at */
                i64 theirs = own[y + 1] - own[y], small = all < theirs ? all : theirs;
                if (!reaches(small, all + theirs, threshold)) continue;
                i64 common = shared(mine, held, elements + own[y], theirs, least_shared(all + theirs, threshold));
                double found = (double)common / (double)(all + theirs - common);
                if (common && found >= threshold && (found > share[i] || (found == share[i] && y < hit[i]))) hit[i] = y, share[i] = found;
            }
    }
    free(mine);
    free(seen);
    return 0;
}
