/* SPDX-License-Identifier: MIT */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FORMAT "netadapt-core 1"

struct Form {
    Cost cost;
    char name[];
};

static uint32_t hash(const char *text)
{
    uint32_t value = 2166136261u; /* FNV-1a */
    while (*text)
        value = (value ^ (uint8_t)*text++) * 16777619u;
    return value;
}

static Form **find(const Model *model, const char *name)
{
    uint32_t mask = model->form_capacity - 1, slot = hash(name) & mask;
    while (model->forms[slot] && strcmp(model->forms[slot]->name, name))
        slot = (slot + 1) & mask;
    return &model->forms[slot];
}

const Cost *model_cost(const Model *model, const char *name)
{
    Form *form = *find(model, name);
    return form ? &form->cost : NULL;
}

/* "LATENCY UOPS ADVANCE NGROUPS MASK:CYCLES ... | NAME" */
static bool read_form(Model *model, const char *line)
{
    unsigned latency, uops, advance, groups;
    int used;
    if (sscanf(line, "%u %u %u %u%n", &latency, &uops, &advance, &groups, &used) != 4 || groups > MOST_GROUPS)
        return false;
    Cost cost = {.latency = latency, .uops = uops, .accumulator_advance = advance, .group_count = groups};
    line += used;
    for (unsigned i = 0; i < groups; i++, line += used) {
        unsigned ports, cycles;
        if (sscanf(line, " %u:%u%n", &ports, &cycles, &used) != 2 || !ports)
            return false;
        cost.groups[i].ports = ports;
        cost.groups[i].cycles = cycles;
    }
    if (strncmp(line, " | ", 3))
        return false;
    const char *name = line + 3;
    Form **slot = find(model, name);
    if (!*slot)
        *slot = calloc(1, sizeof **slot + strlen(name) + 1);
    if (!*slot)
        return false;
    (*slot)->cost = cost;
    strcpy((*slot)->name, name);
    return true;
}

static bool read_cache(Model *model, const char *line)
{
    if (model->levels == MOST_LEVELS)
        return false;
    CacheSize *cache = &model->caches[model->levels++];
    return sscanf(line, "%u %u %u", &cache->size_bytes, &cache->ways, &cache->latency) == 3;
}

static bool read_line(Model *model, const char *key, const char *rest)
{
    struct {
        const char *key;
        uint32_t *number;
    } numbers[] = {
        {"width", &model->width},
        {"window", &model->window},
        {"branch_penalty", &model->branch_penalty},
        {"ports", &model->ports},
        {"store_buffer", &model->store_buffer},
    };
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!strcmp(key, numbers[i].key))
            return sscanf(rest, "%u", numbers[i].number) == 1;
    if (!strcmp(key, "order"))
        return model->out_of_order = !strcmp(rest, "out-of-order"), model->out_of_order || !strcmp(rest, "in-order");
    if (!strcmp(key, "cache"))
        return read_cache(model, rest);
    if (!strcmp(key, "dram"))
        return sscanf(rest, "%u %u", &model->dram_latency, &model->dram_line_cycles) == 2;
    if (!strcmp(key, "prefetch"))
        return sscanf(rest, "%u %u %u", &model->prefetch_streams, &model->prefetch_confidence,
                      &model->prefetch_degree) == 3;
    return !strcmp(key, "form") && read_form(model, rest);
}

static bool complete(const Model *model)
{
    return model->width && model->window && model->window <= MOST_WINDOW && model->ports &&
           model->ports <= MOST_PORTS && model->levels && model->dram_line_cycles;
}

Model *model_read(const char *path, char *error, int error_length)
{
    FILE *file = fopen(path, "r");
    if (!file) {
        snprintf(error, error_length, "%s: cannot be opened", path);
        return NULL;
    }
    Model *model = calloc(1, sizeof *model);
    model->form_capacity = 1 << 14; /* a core has one or two thousand forms */
    model->forms = calloc(model->form_capacity, sizeof *model->forms);
    char line[512];
    int number = 0;
    bool good = true;
    while (good && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (!number++) {
            good = !strcmp(line, FORMAT);
            continue;
        }
        char *rest = strchr(line, ' ');
        if ((good = rest != NULL)) {
            *rest = 0;
            good = read_line(model, line, rest + 1);
        }
    }
    fclose(file);
    if (good && complete(model))
        return model;
    snprintf(error, error_length, "%s: line %d is not of the format '" FORMAT "', or lines are missing", path, number);
    return NULL;
}
