/* SPDX-License-Identifier: MIT
 *
 * What happened in a region, as counts and as the JSON file that the host reads.
 */
#ifndef NETADAPT_REPORT_H
#define NETADAPT_REPORT_H

#include "translate.h"

/* Counters that only grow; a region is the difference of two readings. */
typedef struct {
    uint64_t cycles, branches, mispredictions, bytes_loaded, bytes_stored;
    uint64_t cache_hits[MOST_LEVELS], cache_misses[MOST_LEVELS];
    uint64_t lines_read, lines_written;
} Counters;

Counters counters_between(Counters begin, Counters end);

/* Writes the report so that it is there wholly or not at all. False when it cannot be written. */
bool report_write(const char *path, const Counters *, uint32_t levels, Block **blocks, uint32_t block_count,
                  bool several_threads);

#endif
