/* SPDX-License-Identifier: MIT
 *
 * The numbers of one core, read from the text that `netadapt.measure.simulator.core` writes from a core file.
 */
#ifndef NETADAPT_MODEL_H
#define NETADAPT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum { MOST_PORTS = 32, MOST_GROUPS = 4, MOST_LEVELS = 3, MOST_WINDOW = 512 };

/* What one form of instruction costs. */
typedef struct {
    uint8_t latency; /* cycles from issue until a dependent instruction can issue; for a load that hits L1 */
    uint8_t uops;
    uint8_t accumulator_advance; /* cycles by which the addend may come later than the other sources */
    uint8_t group_count;
    struct {
        uint32_t ports; /* set of ports, any of which will do */
        uint8_t cycles; /* how long one, or how many slots of them, are taken */
    } groups[MOST_GROUPS];
} Cost;

typedef struct {
    uint32_t size_bytes, ways;
    uint32_t latency; /* cycles beyond those of a hit in L1 */
} CacheSize;

typedef struct Form Form;

typedef struct {
    bool out_of_order;
    uint32_t width;  /* micro-ops a cycle */
    uint32_t window; /* instructions in flight */
    uint32_t ports;
    uint32_t branch_penalty;
    uint32_t store_buffer; /* lines that may wait for memory before a store stalls */
    uint32_t levels;
    CacheSize caches[MOST_LEVELS];
    uint32_t dram_latency, dram_line_cycles;
    uint32_t prefetch_streams, prefetch_confidence, prefetch_degree;
    Form **forms; /* hash table, open addressing */
    uint32_t form_capacity;
} Model;

/* Returns NULL and writes a message into `error` when the file cannot be used. */
Model *model_read(const char *path, char *error, int error_length);

/* The cost of a form, or NULL when the core's table does not have it. */
const Cost *model_cost(const Model *, const char *form);

#endif
