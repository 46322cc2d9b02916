/* SPDX-License-Identifier: MIT */
#include "report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const CLASS_NAMES[CLASSES] = {
    [CLASS_INTEGER] = "integer", [CLASS_LOAD] = "load",         [CLASS_STORE] = "store",
    [CLASS_BRANCH] = "branch",   [CLASS_FP_FMA] = "fp_fma",     [CLASS_FP_OTHER] = "fp_other",
    [CLASS_SIMD_OTHER] = "simd",
};

/* Executions of one form that the core's table does not have. */
typedef struct {
    const char *form;
    uint64_t executions;
} Unmodelled;

typedef struct {
    uint64_t instructions, classes[CLASSES], fma_lanes, fp_lanes;
    Unmodelled *unmodelled;
    uint32_t unmodelled_count;
} Mix;

Counters counters_between(Counters begin, Counters end)
{
    Counters difference;
    const uint64_t *a = (const uint64_t *)&begin, *b = (const uint64_t *)&end;
    uint64_t *out = (uint64_t *)&difference;
    for (size_t i = 0; i < sizeof difference / sizeof *out; i++)
        out[i] = b[i] - a[i];
    return difference;
}

static void add_unmodelled(Mix *mix, const char *form, uint64_t executions)
{
    for (uint32_t i = 0; i < mix->unmodelled_count; i++)
        if (!strcmp(mix->unmodelled[i].form, form)) {
            mix->unmodelled[i].executions += executions;
            return;
        }
    mix->unmodelled = realloc(mix->unmodelled, (mix->unmodelled_count + 1) * sizeof *mix->unmodelled);
    mix->unmodelled[mix->unmodelled_count++] = (Unmodelled){form, executions};
}

static void add_block(Mix *mix, const Block *block)
{
    for (uint32_t i = 0; i < block->length; i++) {
        const Word *word = block->words[i];
        mix->classes[word->instruction.class] += block->executions;
        if (word->instruction.class == CLASS_FP_FMA)
            mix->fma_lanes += block->executions * word->instruction.lanes;
        else if (word->instruction.class == CLASS_FP_OTHER)
            mix->fp_lanes += block->executions * word->instruction.lanes;
        if (!word->modelled)
            add_unmodelled(mix, word->instruction.form, block->executions);
    }
    mix->instructions += block->executions * block->length;
}

static void write_number(FILE *file, const char *name, uint64_t number)
{
    fprintf(file, "  \"%s\": %" PRIu64 ",\n", name, number);
}

static void write_levels(FILE *file, const Counters *counters, uint32_t levels)
{
    fprintf(file, "  \"caches\": [");
    for (uint32_t i = 0; i < levels; i++)
        fprintf(file, "%s{\"hits\": %" PRIu64 ", \"misses\": %" PRIu64 "}", i ? ", " : "", counters->cache_hits[i],
                counters->cache_misses[i]);
    fprintf(file, "],\n");
}

static void write_mix(FILE *file, const Mix *mix)
{
    fprintf(file, "  \"mix\": {");
    for (int i = 0; i < CLASSES; i++)
        fprintf(file, "%s\"%s\": %" PRIu64, i ? ", " : "", CLASS_NAMES[i], mix->classes[i]);
    fprintf(file, "},\n  \"unmodelled\": {");
    for (uint32_t i = 0; i < mix->unmodelled_count; i++)
        fprintf(file, "%s\"%s\": %" PRIu64, i ? ", " : "", mix->unmodelled[i].form, mix->unmodelled[i].executions);
    fprintf(file, "}\n");
}

bool report_write(const char *path, const Counters *counters, uint32_t levels, Block **blocks, uint32_t block_count,
                  bool several_threads)
{
    Mix mix = {0};
    for (uint32_t i = 0; i < block_count; i++)
        if (blocks[i]->executions)
            add_block(&mix, blocks[i]);
    char temporary[4096];
    snprintf(temporary, sizeof temporary, "%s.tmp", path);
    FILE *file = fopen(temporary, "w");
    if (!file)
        return false;
    fprintf(file, "{\n");
    write_number(file, "cycles", counters->cycles);
    write_number(file, "instructions", mix.instructions);
    write_number(file, "fma_lanes", mix.fma_lanes);
    write_number(file, "fp_lanes", mix.fp_lanes);
    write_number(file, "branches", counters->branches);
    write_number(file, "mispredictions", counters->mispredictions);
    write_number(file, "bytes_loaded", counters->bytes_loaded);
    write_number(file, "bytes_stored", counters->bytes_stored);
    write_number(file, "dram_lines_read", counters->lines_read);
    write_number(file, "dram_lines_written", counters->lines_written);
    write_levels(file, counters, levels);
    fprintf(file, "  \"several_threads\": %s,\n", several_threads ? "true" : "false");
    write_mix(file, &mix);
    fprintf(file, "}\n");
    free(mix.unmodelled);
    bool good = !ferror(file);
    return !fclose(file) && good && !rename(temporary, path);
}
