/* SPDX-License-Identifier: MIT
 *
 * The cycles that a core takes for a sequence of blocks of instructions, from its model alone.
 *
 * Trace-driven: the instructions and addresses are those that were really executed, and only their times are computed.
 * All arithmetic is on integers, so the same trace gives the same cycles on every machine.
 */
#ifndef NETADAPT_CORE_H
#define NETADAPT_CORE_H

#include "decode.h"
#include "memory.h"

/* An instruction with its cost on the core at hand: what the inner loop reads, in one line of the host's cache. */
typedef struct {
    uint8_t latency, uops, accumulator_advance;
    uint8_t source_count, destination_count, group_count;
    uint8_t written_back; /* NO_REGISTER where there is none */
    bool loads : 1, stores : 1, branches : 1, accumulates : 1;
    uint8_t sources[MOST_SOURCES]; /* the accumulator, if there is one, is the last */
    uint8_t destinations[MOST_DESTINATIONS];
    struct {
        uint32_t ports;
        uint8_t cycles;
    } groups[MOST_GROUPS];
} Operation;

/* A run of instructions that is entered at its first one only: QEMU's translation block. */
typedef struct {
    uint64_t address;
    uint32_t identity; /* hash of where it lies and how long it is: the same in every process */
    uint32_t length;
    uint64_t executions;
    const struct Word **words; /* for the report; not read while timing */
    struct Memo *memo;         /* belongs to replay.c */
    Operation operations[];
} Block;

typedef struct {
    uint32_t index; /* of the instruction in its block */
    uint64_t line;
} Access;

typedef struct Core Core;

/* Returns NULL when there is no memory. */
Core *core_open(const Model *);

Memory *core_memory(Core *);

/* Whether the branch predictor guesses that `next` follows `block`; it learns from the answer. */
bool core_predicts(Core *, const Block *block, const Block *next);

/* Lets a wrong guess be paid for. */
void core_mispredict(Core *);

/* The cycle at which everything that was run so far is finished. */
uint64_t core_now(const Core *);

/* Lets the core drain, so that what comes next overlaps with nothing before. */
void core_drain(Core *);

uint64_t core_branches(const Core *);
uint64_t core_mispredictions(const Core *);

#endif
