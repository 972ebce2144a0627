/* checksum.c: the checksum of an artifact's file, CRC-32 as in zlib, so that a damaged file is not run. It says nothing
 * about who made the file: docs/signing.md. A file that was whole is not read again while it is the same. */

#include <immintrin.h> /* which defines functions that call malloc, before tests make a macro of that */

#include "internal.h"

#include <string.h>
#include <time.h>

static u32 crc_bytes(const u8 *bytes, u64 size, u32 crc) {
    static const u32 nibbles[16] = {0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4,
                                    0x4db26158, 0x5005713c, 0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c,
                                    0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c};
    for (u64 i = 0; i < size; i++) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ nibbles[crc & 15];
        crc = crc >> 4 ^ nibbles[crc & 15];
    }
    return crc;
}

/* Eight bytes at a time. tables[k][b]: what byte b does to the CRC when k zero bytes follow it. */
static u32 crc_words(const u8 *bytes, u64 size, u32 crc) {
    u32 tables[8][256];
    for (u32 b = 0; b < 256; b++) {
        u8 byte = (u8)b;
        tables[0][b] = crc_bytes(&byte, 1, 0);
    }
    for (u32 k = 1; k < 8; k++)
        for (u32 b = 0; b < 256; b++)
            tables[k][b] = tables[k - 1][b] >> 8 ^ tables[0][tables[k - 1][b] & 0xff];
    for (; size >= 8; bytes += 8, size -= 8) {
        u64 word;
        memcpy(&word, bytes, 8);
        word ^= crc;
        crc = 0;
        for (u32 k = 0; k < 8; k++)
            crc ^= tables[7 - k][word >> 8 * k & 0xff];
    }
    return crc_bytes(bytes, size, crc);
}

#define FOLDING __attribute__((target("pclmul,sse4.1")))

FOLDING static __m128i fold(__m128i x, __m128i by, __m128i next) {
    return _mm_xor_si128(_mm_xor_si128(_mm_clmulepi64_si128(x, by, 0x00), _mm_clmulepi64_si128(x, by, 0x11)), next);
}

FOLDING static __m128i load(const u8 *at) {
    return _mm_loadu_si128((const void *)at);
}

/* By carry-less multiplication: V. Gopal and others, "Fast CRC Computation for Generic Polynomials Using PCLMULQDQ
 * Instruction", Intel, 2009; the constants are those for CRC-32 with reflected bits. size: at least 64. */
FOLDING static u32 crc_folded(const u8 *bytes, u64 size, u32 crc) {
    const __m128i by_64 = _mm_set_epi64x(0x01c6e41596, 0x0154442bd4),
                  by_16 = _mm_set_epi64x(0x00ccaa009e, 0x01751997d0);
    const __m128i by_4 = _mm_set_epi64x(0, 0x0163cd6124), polynomial = _mm_set_epi64x(0x01f7011641, 0x01db710641);
    const __m128i low = _mm_setr_epi32(~0, 0, ~0, 0);
    __m128i a = _mm_xor_si128(load(bytes), _mm_cvtsi32_si128((int)crc)), b = load(bytes + 16), c = load(bytes + 32),
            d = load(bytes + 48);
    for (bytes += 64, size -= 64; size >= 64; bytes += 64, size -= 64) {
        a = fold(a, by_64, load(bytes));
        b = fold(b, by_64, load(bytes + 16));
        c = fold(c, by_64, load(bytes + 32));
        d = fold(d, by_64, load(bytes + 48));
    }
    a = fold(fold(fold(a, by_16, b), by_16, c), by_16, d);
    for (; size >= 16; bytes += 16, size -= 16)
        a = fold(a, by_16, load(bytes));
    /* 128 bits to 64, to 32. */
    a = _mm_xor_si128(_mm_clmulepi64_si128(a, by_16, 0x10), _mm_srli_si128(a, 8));
    a = _mm_xor_si128(_mm_clmulepi64_si128(_mm_and_si128(a, low), by_4, 0x00), _mm_srli_si128(a, 4));
    b = _mm_clmulepi64_si128(_mm_and_si128(a, low), polynomial, 0x10);
    b = _mm_clmulepi64_si128(_mm_and_si128(b, low), polynomial, 0x00);
    return crc_bytes(bytes, size, (u32)_mm_extract_epi32(_mm_xor_si128(a, b), 1));
}

static u32 crc(const u8 *bytes, u64 size, u32 value, bool portable) {
    if (size < 64)
        return crc_bytes(bytes, size, value);
    if (!portable && __builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1"))
        return crc_folded(bytes, size, value);
    return crc_words(bytes, size, value);
}

u32 artifact_checksum(const u8 *bytes, u64 size, u64 hole, bool portable) {
    static const u8 zeros[4];
    u32 value = crc(bytes, hole, ~0U, portable);
    value = crc(zeros, 4, value, portable);
    return ~crc(bytes + hole + 4, size - hole - 4, value, portable);
}

/* ---- files that were whole ---- */

struct seen {
    dev_t device;
    ino_t inode;
    off_t size;
    struct timespec modified, changed;
};

static struct seen seen[64];
static u32 seen_count;

static struct seen seen_of(const struct stat *status) {
    struct seen one;
    memset(&one, 0, sizeof one); /* which is compared whole */
    one.device = status->st_dev;
    one.inode = status->st_ino;
    one.size = status->st_size;
    one.modified = status->st_mtim;
    one.changed = status->st_ctim;
    return one;
}

bool was_whole(const struct stat *status) {
    struct seen wanted = seen_of(status);
    bool found = false;
    process_lock(WHOLE_FILES_LOCK);
    for (u32 i = 0; i < seen_count && i < 64 && !found; i++)
        found = memcmp(&seen[i], &wanted, sizeof wanted) == 0;
    process_unlock(WHOLE_FILES_LOCK);
    return found;
}

void is_whole(const struct stat *status) {
    /* The clock of file systems is coarse: a file that has just been written may be written again without any of its
     * times changing, and is not remembered. */
    struct timespec now;
    if (clock_gettime(CLOCK_REALTIME, &now) < 0 || now.tv_sec - status->st_ctim.tv_sec < 2 ||
        now.tv_sec - status->st_mtim.tv_sec < 2)
        return;
    process_lock(WHOLE_FILES_LOCK);
    seen[seen_count % 64] = seen_of(status);
    seen_count = seen_count == UINT32_MAX ? 64 : seen_count + 1;
    process_unlock(WHOLE_FILES_LOCK);
}
