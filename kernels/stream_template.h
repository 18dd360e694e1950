/*
 * stream_template.h - the loops of common/streams.h but for reading. Include after defining
 *   WORD            a register of doubles
 *   LOAD(p)  STORE(p, x)  STORE_NT(p, x)     at a const double * / double *, 64-byte aligned blocks
 *   SET(value)  PLUS(x, y)  TIMES(x, y)
 *   FENCE()         after non-temporal stores, so that their time is counted
 * and fills streams_LEVEL() with FILL_STREAMS(loops).
 *
 * As plain as STREAM's own: one pass, unrolled to a block, no software prefetch (arrays in order are what hardware prefetchers are made
 * for). The compiler may not move anything over the end of a block, or it would make memcpy of a copy, whose stores are of another kind.
 */
#define STREAM_LOOP(name, value, store, end) \
    static uint64_t name(double *a, const double *b, const double *c, size_t bytes) \
    { \
        enum { LANES = sizeof(WORD) / sizeof(double), BLOCK = STREAM_BLOCK_BYTES / sizeof(double) }; \
        const WORD one = SET(1.0), three = SET(3.0); \
        (void)b; \
        (void)c; \
        (void)one; \
        (void)three; \
        for (size_t block = 0; block < bytes / sizeof(double); block += BLOCK) { \
            _Pragma("GCC unroll 32") for (size_t i = block; i < block + BLOCK; i += LANES) store(a + i, value); \
            __asm__ volatile("" : : : "memory"); \
        } \
        end; \
        return (uint64_t)(uintptr_t)a; \
    }

STREAM_LOOP(stream_3_1, PLUS(LOAD(a + i), PLUS(LOAD(b + i), LOAD(c + i))), STORE, )
STREAM_LOOP(stream_2_1, PLUS(LOAD(a + i), LOAD(b + i)), STORE, )
STREAM_LOOP(stream_1_1, PLUS(LOAD(a + i), one), STORE, )
STREAM_LOOP(stream_write, one, STORE, )
STREAM_LOOP(stream_write_nt, one, STORE_NT, FENCE())
STREAM_LOOP(stream_copy, LOAD(b + i), STORE, )
STREAM_LOOP(stream_scale, TIMES(three, LOAD(b + i)), STORE, )
STREAM_LOOP(stream_add, PLUS(LOAD(b + i), LOAD(c + i)), STORE, )
STREAM_LOOP(stream_triad, PLUS(LOAD(b + i), TIMES(three, LOAD(c + i))), STORE, )
STREAM_LOOP(stream_copy_nt, LOAD(b + i), STORE_NT, FENCE())
STREAM_LOOP(stream_scale_nt, TIMES(three, LOAD(b + i)), STORE_NT, FENCE())
STREAM_LOOP(stream_add_nt, PLUS(LOAD(b + i), LOAD(c + i)), STORE_NT, FENCE())
STREAM_LOOP(stream_triad_nt, PLUS(LOAD(b + i), TIMES(three, LOAD(c + i))), STORE_NT, FENCE())
#undef STREAM_LOOP

#define FILL_STREAMS(loops) \
    do { \
        (loops)->run[STREAM_READ_3_1] = stream_3_1; \
        (loops)->run[STREAM_READ_2_1] = stream_2_1; \
        (loops)->run[STREAM_READ_1_1] = stream_1_1; \
        (loops)->run[STREAM_WRITE] = stream_write; \
        (loops)->run[STREAM_WRITE_NT] = stream_write_nt; \
        (loops)->run[STREAM_COPY] = stream_copy; \
        (loops)->run[STREAM_SCALE] = stream_scale; \
        (loops)->run[STREAM_ADD] = stream_add; \
        (loops)->run[STREAM_TRIAD] = stream_triad; \
        (loops)->run[STREAM_COPY_NT] = stream_copy_nt; \
        (loops)->run[STREAM_SCALE_NT] = stream_scale_nt; \
        (loops)->run[STREAM_ADD_NT] = stream_add_nt; \
        (loops)->run[STREAM_TRIAD_NT] = stream_triad_nt; \
    } while (0)
