/* SPDX-License-Identifier: MIT */
#include "translate.h"

#include <stdlib.h>
#include <string.h>

struct Translator {
    const Model *model;
    Decoder *decoder;
    Word **words; /* hash table, open addressing */
    uint32_t capacity, used;
};

/* What an instruction is taken to cost when the core's table does not have it; the report names it. */
static const Cost UNKNOWN = {.latency = 1, .uops = 1};

static Word **find(const Translator *translator, uint32_t bits)
{
    uint32_t mask = translator->capacity - 1, slot = (bits * 2654435761u >> 8) & mask;
    while (translator->words[slot] && translator->words[slot]->bits != bits)
        slot = (slot + 1) & mask;
    return &translator->words[slot];
}

static void grow(Translator *translator)
{
    Word **old = translator->words;
    uint32_t old_capacity = translator->capacity;
    translator->capacity *= 2;
    translator->words = calloc(translator->capacity, sizeof *translator->words);
    for (uint32_t i = 0; i < old_capacity; i++)
        if (old[i])
            *find(translator, old[i]->bits) = old[i];
    free(old);
}

static Operation operation_of(const Instruction *instruction, const Cost *cost, uint32_t width)
{
    Operation operation = {
        .latency = cost->latency,
        /* An instruction of more micro-ops than the core dispatches at once takes a whole cycle of its own. */
        .uops = cost->uops < width ? cost->uops : width,
        .accumulator_advance = cost->accumulator_advance,
        .source_count = instruction->source_count,
        .destination_count = instruction->destination_count,
        .group_count = cost->group_count,
        .written_back = instruction->written_back,
        .loads = instruction->loads,
        .stores = instruction->stores,
        .branches = instruction->branches,
        .accumulates = instruction->accumulator != NO_REGISTER && cost->accumulator_advance,
    };
    memcpy(operation.sources, instruction->sources, sizeof operation.sources);
    memcpy(operation.destinations, instruction->destinations, sizeof operation.destinations);
    for (uint32_t i = 0; i < cost->group_count; i++) {
        operation.groups[i].ports = cost->groups[i].ports;
        operation.groups[i].cycles = cost->groups[i].cycles;
    }
    return operation;
}

const Word *translate_word(Translator *translator, uint32_t bits)
{
    Word **slot = find(translator, bits);
    if (*slot)
        return *slot;
    if (2 * ++translator->used > translator->capacity) {
        grow(translator);
        slot = find(translator, bits);
    }
    Word *word = calloc(1, sizeof *word);
    word->bits = bits;
    decode(translator->decoder, bits, &word->instruction);
    const Cost *cost = model_cost(translator->model, word->instruction.form);
    word->modelled = cost != NULL;
    word->operation = operation_of(&word->instruction, cost ? cost : &UNKNOWN, translator->model->width);
    return *slot = word;
}

Translator *translator_open(const Model *model, const char *capstone, char *error, int error_length)
{
    Decoder *decoder = decoder_open(capstone, error, error_length);
    if (!decoder)
        return NULL;
    Translator *translator = calloc(1, sizeof *translator);
    translator->model = model;
    translator->decoder = decoder;
    translator->capacity = 1 << 14;
    translator->words = calloc(translator->capacity, sizeof *translator->words);
    return translator;
}
