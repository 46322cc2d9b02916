/* SPDX-License-Identifier: MIT
 *
 * Data caches, prefetcher and main memory of one core.
 *
 * Caches are set-associative with LRU replacement, write back and allocate on a write; a line that a level holds is not
 * taken from the level above (neither inclusive nor exclusive). Main memory has a latency and a bandwidth: a line
 * keeps the bus for `dram_line_cycles`, and who comes later waits. The prefetcher follows streams of adjacent lines.
 * Translation look-aside buffers and instruction caches are not modelled.
 */
#ifndef NETADAPT_MEMORY_H
#define NETADAPT_MEMORY_H

#include "model.h"

enum { LINE_BITS = 6, MOST_STREAMS = 64 };

typedef struct {
    uint64_t line;     /* address / 64, or NO_LINE */
    uint64_t arrives;  /* cycle at which the line is there; 0 once it was used after that */
    uint64_t last_use; /* a count of uses, not a time */
    bool dirty;
} Way;

typedef struct {
    Way *ways;
    uint32_t set_mask, associativity, latency;
    uint64_t hits, misses;
} Cache;

typedef struct {
    uint64_t last_line;
    uint32_t confidence;
} Stream;

typedef struct {
    Cache caches[MOST_LEVELS];
    uint32_t levels;
    uint64_t uses;
    uint64_t bus_free; /* cycle at which main memory can take the next line */
    uint32_t dram_latency, dram_line_cycles;
    uint64_t lines_read, lines_written;
    Stream streams[MOST_STREAMS];
    uint32_t stream_count, next_stream, confidence, degree;
} Memory;

bool memory_open(Memory *, const Model *);

/* Empties all caches and forgets all streams; dirty lines are dropped, not written. */
void memory_empty(Memory *);

/* What an access that `memory_access` did not settle costs, and all that follows from it. */
uint64_t memory_access_slowly(Memory *, uint64_t line, bool store, uint64_t now);

/* Cycles beyond those of an L1 hit until the data of an access issued at `now` is there. */
static inline uint64_t memory_access(Memory *memory, uint64_t line, bool store, uint64_t now)
{
    Cache *cache = &memory->caches[0];
    Way *set = &cache->ways[(line & cache->set_mask) * cache->associativity];
    for (uint32_t i = 0; i < cache->associativity; i++)
        if (set[i].line == line) {
            if (set[i].arrives)
                break;
            cache->hits++;
            set[i].last_use = ++memory->uses;
            set[i].dirty |= store;
            return 0;
        }
    return memory_access_slowly(memory, line, store, now);
}

#endif
