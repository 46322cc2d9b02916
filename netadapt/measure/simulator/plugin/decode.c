/* SPDX-License-Identifier: MIT
 *
 * Capstone is asked for the text of an instruction only. Its tables of the registers that an instruction reads and
 * writes miss accumulators, elements that are inserted into a vector, and the results of exclusive stores, while its
 * text is that of Arm's manual; so the operands are read from the text and what happens to them is told here. */
#define _GNU_SOURCE /* RTLD_DEEPBIND */
#include "decode.h"

/* Its values of enumerations do not all fit an int, which ISO C asks for. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic"
#include <capstone/capstone.h>
#pragma GCC diagnostic pop

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    CAPSTONE_VERSION = 5, /* its names of mnemonics and aliases are the keys of the tables */
    MOST_OPERANDS = 8,
    MOST_LISTED = 4, /* registers of a list such as {v0.4s, v1.4s} */
    MOST_TEXT = 48,
    CHEAP_SHIFT = 4, /* several cores add a register shifted left by up to this as fast as an unshifted one */
};

struct Decoder {
    void *library;
    csh handle;
    cs_insn *instruction;
    cs_err (*close)(csh *);
    void (*release)(cs_insn *, size_t);
    bool (*disassemble)(csh, const uint8_t **, size_t *, uint64_t *, cs_insn *);
};

typedef enum {
    OPERAND_GENERAL, /* x0, wsp, xzr */
    OPERAND_VECTOR,  /* v0.4s, q0, s0 */
    OPERAND_ELEMENT, /* v0.s[1], {v0.s}[1] */
    OPERAND_MEMORY,
    OPERAND_IMMEDIATE,
    OPERAND_CONDITION,
    OPERAND_SHIFT, /* lsl #3, uxtw: belongs to the operand before it */
    OPERAND_NAME,  /* a barrier, prefetch or system register */
} OperandKind;

typedef struct {
    OperandKind kind;
    char shape[FORM_LENGTH];
    uint8_t registers[MOST_LISTED], count; /* without xzr; of memory: base and index */
    uint8_t lanes;                         /* of a whole vector with an arrangement, otherwise 0 */
    bool pre_indexed;
} Operand;

typedef struct {
    const char *mnemonic;
    Operand operands[MOST_OPERANDS];
    int count;
    int memory; /* index of the memory operand, or -1 */
    bool post_indexed;
} Text;

/* ---- Opening Capstone ---- */

/* ISO C has no conversion from the pointer that dlsym gives to one of a function; POSIX promises that copying works. */
static bool find_function(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    memcpy(function, &symbol, sizeof symbol);
    return symbol != NULL;
}

static void fail(Decoder *decoder, char *error, int error_length, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, (size_t)error_length, format, arguments);
    va_end(arguments);
    decoder_close(decoder);
}

Decoder *decoder_open(const char *library, char *error, int error_length) {
    unsigned (*version)(int *, int *) = NULL;
    cs_err (*open)(cs_arch, cs_mode, csh *) = NULL;
    cs_insn *(*allocate)(csh) = NULL;
    Decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder) {
        snprintf(error, (size_t)error_length, "out of memory");
        return NULL;
    }
    /* QEMU itself is linked with an older Capstone, whose functions of the same names must not be found first. */
    decoder->library = dlopen(library, RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
    if (!decoder->library) {
        fail(decoder, error, error_length, "cannot load Capstone: %s", dlerror());
        return NULL;
    }
    if (!find_function(decoder->library, "cs_version", &version) ||
        !find_function(decoder->library, "cs_open", &open) ||
        !find_function(decoder->library, "cs_malloc", &allocate) ||
        !find_function(decoder->library, "cs_close", &decoder->close) ||
        !find_function(decoder->library, "cs_free", &decoder->release) ||
        !find_function(decoder->library, "cs_disasm_iter", &decoder->disassemble)) {
        fail(decoder, error, error_length, "%s is not Capstone's library", library);
        return NULL;
    }
    int major = 0, minor = 0;
    version(&major, &minor);
    if (major != CAPSTONE_VERSION) {
        fail(decoder, error, error_length, "%s is Capstone %d.%d, version %d is needed", library, major, minor,
             CAPSTONE_VERSION);
        return NULL;
    }
    if (open(CS_ARCH_ARM64, CS_MODE_LITTLE_ENDIAN, &decoder->handle) != CS_ERR_OK ||
        !(decoder->instruction = allocate(decoder->handle))) {
        fail(decoder, error, error_length, "%s has no AArch64 decoder", library);
        return NULL;
    }
    return decoder;
}

void decoder_close(Decoder *decoder) {
    if (!decoder)
        return;
    if (decoder->instruction)
        decoder->release(decoder->instruction, 1);
    if (decoder->handle)
        decoder->close(&decoder->handle);
    if (decoder->library)
        dlclose(decoder->library);
    free(decoder);
}

/* ---- Small helpers on text ---- */

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static bool starts_with(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

static bool ends_with(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length >= end_length && strcmp(text + length - end_length, end) == 0;
}

static bool is_one_of(const char *text, const char *const *names) {
    for (; *names; names++)
        if (strcmp(text, *names) == 0)
            return true;
    return false;
}

static bool starts_with_one_of(const char *text, const char *const *starts) {
    for (; *starts; starts++)
        if (starts_with(text, *starts))
            return true;
    return false;
}

/* Appends as much as there is room for. */
static void append(char *text, size_t size, const char *more) {
    size_t length = strlen(text);
    if (length < size)
        snprintf(text + length, size - length, "%s", more);
}

static const char *skip_spaces(const char *text) {
    while (*text == ' ')
        text++;
    return text;
}

/* Copies the part of a list of operands up to the next comma that is outside brackets; gives what follows it. */
static const char *next_part(const char *text, char part[MOST_TEXT]) {
    int depth = 0;
    size_t length = 0;
    for (text = skip_spaces(text); *text && (depth > 0 || *text != ','); text++) {
        depth += (*text == '[' || *text == '{') - (*text == ']' || *text == '}');
        if (length + 1 < MOST_TEXT)
            part[length++] = *text;
    }
    part[length] = '\0';
    return *text == ',' ? text + 1 : text;
}

/* ---- Operands ---- */

static void add_register(Operand *operand, int number) {
    if (operand->count < MOST_LISTED)
        operand->registers[operand->count++] = (uint8_t)number;
}

/* Reads a general register; its shape is "x" or "w", as which the stack pointer and the zero register count, too. */
static bool read_general(const char *text, Operand *operand) {
    if (strcmp(text, "sp") == 0 || strcmp(text, "wsp") == 0) {
        append(operand->shape, FORM_LENGTH, text[0] == 'w' ? "w" : "x");
        add_register(operand, REGISTER_SP);
        return true;
    }
    if (text[0] != 'x' && text[0] != 'w')
        return false;
    char *end;
    long number = is_digit(text[1]) ? strtol(text + 1, &end, 10) : -1;
    bool zero = strcmp(text + 1, "zr") == 0;
    if (!zero && (number < 0 || number > 30 || *end))
        return false;
    append(operand->shape, FORM_LENGTH, text[0] == 'w' ? "w" : "x");
    if (!zero)
        add_register(operand, (int)number);
    return true;
}

/* Reads a vector register "q0", "v0.4s" or "v0.s[1]"; the number of the element is left out of the shape. */
static bool read_vector(const char *text, Operand *operand) {
    if (!text[0] || !strchr("vqdshbz", text[0]) || !is_digit(text[1]))
        return false;
    char *end;
    long number = strtol(text + 1, &end, 10);
    if (number > 31 || (*end && *end != '.'))
        return false;
    char shape[MOST_TEXT] = {text[0]};
    append(shape, sizeof shape, end);
    char *bracket = strchr(shape, '[');
    if (bracket) {
        *bracket = '\0';
        append(shape, sizeof shape, "[]");
    }
    append(operand->shape, FORM_LENGTH, shape);
    add_register(operand, REGISTER_V0 + (int)number);
    operand->kind = bracket ? OPERAND_ELEMENT : OPERAND_VECTOR;
    operand->lanes = bracket || *end != '.' ? 0 : (uint8_t)strtol(end + 1, NULL, 10);
    return true;
}

/* Reads "{v0.4s, v1.4s}" or "{v0.s, v1.s}[2]". */
static bool read_list(const char *text, Operand *operand) {
    if (text[0] != '{')
        return false;
    char inner[MOST_TEXT], part[MOST_TEXT];
    snprintf(inner, sizeof inner, "%s", text + 1);
    char *end = strchr(inner, '}');
    bool element = end && end[1] == '[';
    if (end)
        *end = '\0';
    append(operand->shape, FORM_LENGTH, "{");
    for (const char *rest = inner; *rest;) {
        rest = next_part(rest, part);
        if (!read_vector(part, operand))
            append(operand->shape, FORM_LENGTH, part);
        append(operand->shape, FORM_LENGTH, *rest ? " " : "");
    }
    append(operand->shape, FORM_LENGTH, element ? "}[]" : "}");
    operand->kind = element ? OPERAND_ELEMENT : OPERAND_VECTOR;
    return true;
}

/* Reads what modifies the operand before it: a shift, or the extension of a narrow register. How far a register is
 * shifted left can matter for the cost; for an index or an immediate it does not. */
static bool read_shift(const char *text, bool of_register, Operand *operand) {
    static const char *const kinds[] = {"lsl", "lsr", "asr", "ror", "msl", "uxt", "sxt", NULL};
    if (!starts_with_one_of(text, kinds))
        return false;
    const char *amount = strchr(text, '#');
    size_t length = strcspn(text, " ");
    char shape[MOST_TEXT];
    snprintf(shape, sizeof shape, "%.*s", (int)length, text);
    if (starts_with(shape, "lsl")) {
        if (of_register && amount && strtol(amount + 1, NULL, 0) > CHEAP_SHIFT)
            append(shape, sizeof shape, ">4");
    } else if (amount && strchr("us", shape[0])) {
        append(shape, sizeof shape, " #");
    }
    append(operand->shape, FORM_LENGTH, shape);
    operand->kind = OPERAND_SHIFT;
    return true;
}

/* Reads "[x0, #16]!", "[x0, w1, sxtw #2]"; the offset 0, which is not written, looks like any other. */
static bool read_memory(const char *text, bool takes_offset, Operand *operand) {
    if (text[0] != '[')
        return false;
    char inner[MOST_TEXT], part[MOST_TEXT];
    snprintf(inner, sizeof inner, "%s", text + 1);
    char *end = strchr(inner, ']');
    if (end)
        *end = '\0';
    operand->pre_indexed = ends_with(text, "!");
    append(operand->shape, FORM_LENGTH, "[");
    int parts = 0;
    for (const char *rest = inner; *rest; parts++) {
        rest = next_part(rest, part);
        append(operand->shape, FORM_LENGTH, parts ? " " : "");
        Operand piece = {.kind = OPERAND_GENERAL};
        if (part[0] == '#')
            append(operand->shape, FORM_LENGTH, "#");
        else if (read_shift(part, false, &piece))
            append(operand->shape, FORM_LENGTH, piece.shape);
        else if (!read_general(part, operand) && !read_vector(part, operand))
            append(operand->shape, FORM_LENGTH, part);
    }
    operand->kind = OPERAND_MEMORY;
    append(operand->shape, FORM_LENGTH, parts == 1 && takes_offset ? " #]" : "]");
    append(operand->shape, FORM_LENGTH, operand->pre_indexed ? "!" : "");
    return true;
}

static Operand read_operand(const char *text, bool takes_offset, bool after_register) {
    static const char *const conditions[] = {"eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi",
                                             "ls", "ge", "lt", "gt", "le", "al", "nv", NULL};
    Operand operand = {.kind = OPERAND_GENERAL};
    if (text[0] == '#') {
        operand.kind = OPERAND_IMMEDIATE;
        append(operand.shape, FORM_LENGTH, "#");
    } else if (is_one_of(text, conditions)) {
        operand.kind = OPERAND_CONDITION;
        append(operand.shape, FORM_LENGTH, "cond");
    } else if (!read_memory(text, takes_offset, &operand) && !read_list(text, &operand) &&
               !read_general(text, &operand) && !read_vector(text, &operand) &&
               !read_shift(text, after_register, &operand)) {
        operand.kind = OPERAND_NAME;
        append(operand.shape, FORM_LENGTH, text);
    }
    return operand;
}

/* Whether a load or store of this encoding can have an immediate offset. Those of structures (ld1...), exclusive and
 * ordered ones, and atomics have a plain base. */
static bool can_have_offset(uint32_t word) {
    bool structures = (word & 0xBE000000) == 0x0C000000;
    bool exclusive = (word & 0x3F000000) == 0x08000000;
    bool atomic = (word & 0x3B200C00) == 0x38200000;
    return !structures && !exclusive && !atomic;
}

static void read_text(uint32_t word, const char *mnemonic, const char *operands, Text *text) {
    char part[MOST_TEXT];
    *text = (Text){.mnemonic = mnemonic, .memory = -1};
    for (const char *rest = skip_spaces(operands); *rest && text->count < MOST_OPERANDS; text->count++) {
        rest = next_part(rest, part);
        bool after_register = text->count > 0 && text->operands[text->count - 1].kind == OPERAND_GENERAL;
        Operand operand = read_operand(part, can_have_offset(word), after_register);
        if (operand.kind == OPERAND_MEMORY)
            text->memory = text->count;
        else if (text->memory >= 0)
            text->post_indexed = true;
        text->operands[text->count] = operand;
    }
}

/* ---- Form ---- */

static bool is_prefetch(const char *mnemonic) { return starts_with(mnemonic, "prf"); }

static void write_form(const Text *text, char form[FORM_LENGTH]) {
    /* Any system register or operation by number: there are hundreds. */
    static const char *const any_name[] = {"mrs", "msr", "sys", "sysl", NULL};
    form[0] = '\0';
    append(form, FORM_LENGTH, starts_with(text->mnemonic, "b.") ? "b.cond" : text->mnemonic);
    for (int i = 0; i < text->count; i++) {
        const Operand *operand = &text->operands[i];
        const char *shape = operand->shape;
        if (operand->kind == OPERAND_NAME && is_one_of(text->mnemonic, any_name))
            shape = "op";
        /* The kind of prefetch, of which Capstone does not name all. */
        if (i == 0 && is_prefetch(text->mnemonic))
            shape = "op";
        if (operand->kind == OPERAND_MEMORY && text->post_indexed)
            shape = "[x]";
        append(form, FORM_LENGTH, " ");
        append(form, FORM_LENGTH, shape);
    }
}

/* ---- What an instruction does with its operands ---- */

/* Whose destination is also what the products are added to. */
static bool accumulates_into_destination(const char *mnemonic) {
    static const char *const starts[] = {"fmla",   "fmls",   "fcmla",    "mla",      "mls",    "smlal",  "smlsl",
                                         "umlal",  "umlsl",  "sqdmlal",  "sqdmlsl",  "sdot",   "udot",   "usdot",
                                         "sudot",  "bfdot",  "bfmlal",   "bfmmla",   "smmla",  "ummla",  "usmmla",
                                         "sqrdmla", "sqrdmls", NULL};
    return starts_with_one_of(mnemonic, starts);
}

/* Whose fourth operand is what the product is added to. */
static bool accumulates_fourth(const char *mnemonic) {
    static const char *const names[] = {"fmadd",  "fmsub",  "fnmadd", "fnmsub", "madd",   "msub",
                                        "smaddl", "smsubl", "umaddl", "umsubl", NULL};
    return is_one_of(mnemonic, names);
}

/* Whose destination keeps a part of its old value, or is combined with it, besides those that accumulate products. */
static bool updates_destination(const Text *text) {
    static const char *const names[] = {
        "movk",    "bfi",     "bfxil",    "bfm",       "bfc",       "bif",     "bit",     "bsl",     "tbx",
        "saba",    "uaba",    "sabal",    "uabal",     "sabal2",    "uabal2",  "sadalp",  "uadalp",  "ssra",
        "usra",    "srsra",   "ursra",    "sli",       "sri",       "suqadd",  "usqadd",  "aese",    "aesd",
        "sha1c",   "sha1m",   "sha1p",    "sha1su0",   "sha1su1",   "sha256h", "sha256h2", "sha256su0", "sha256su1",
        "sha512h", "sha512h2", "sha512su0", "sha512su1", "sm3partw1", "sm3partw2", "sm4e", "pacia",   "pacib",
        "pacda",   "pacdb",   "autia",    "autib",     "autda",     "autdb",   NULL};
    static const char *const with_immediate[] = {"orr", "bic", NULL};
    const Operand *first = &text->operands[0], *second = &text->operands[1];
    /* Narrowing into the upper half: xtn2, sqshrn2, addhn2, fcvtn2... */
    if (first->kind == OPERAND_VECTOR && ends_with(text->mnemonic, "n2"))
        return true;
    /* "orr v0.4s, #1" has no other source. */
    if (first->kind == OPERAND_VECTOR && text->count >= 2 && second->kind == OPERAND_IMMEDIATE &&
        is_one_of(text->mnemonic, with_immediate))
        return true;
    return first->kind == OPERAND_ELEMENT || is_one_of(text->mnemonic, names);
}

static bool only_compares(const char *mnemonic) {
    static const char *const names[] = {"cmp",   "cmn",    "tst",  "ccmp",  "ccmn",  "fcmp", "fcmpe",
                                        "fccmp", "fccmpe", "rmif", "setf8", "setf16", NULL};
    return is_one_of(mnemonic, names);
}

static bool writes_flags(const char *mnemonic) {
    static const char *const names[] = {"adds", "subs",  "ands",   "bics",   "adcs", "sbcs",
                                        "negs", "ngcs",  "cfinv",  "axflag", "xaflag", NULL};
    return only_compares(mnemonic) || is_one_of(mnemonic, names);
}

static bool reads_flags(const char *mnemonic) {
    static const char *const names[] = {"csel",  "csinc", "csinv", "csneg", "cset",  "csetm",  "cinc",
                                        "cinv",  "cneg",  "fcsel", "ccmp",  "ccmn",  "fccmp",  "fccmpe",
                                        "adc",   "adcs",  "sbc",   "sbcs",  "ngc",   "ngcs",   "cfinv",
                                        "axflag", "xaflag", "rmif", "setf8", "setf16", NULL};
    return starts_with(mnemonic, "b.") || is_one_of(mnemonic, names);
}

static bool is_branch(const char *mnemonic) {
    static const char *const names[] = {"b",      "bl",    "br",    "blr",   "ret",   "cbz",    "cbnz",   "tbz",
                                        "tbnz",   "braa",  "braaz", "brab",  "brabz", "blraa",  "blraaz", "blrab",
                                        "blrabz", "retaa", "retab", NULL};
    return starts_with(mnemonic, "b.") || is_one_of(mnemonic, names);
}

/* Loads, changes and stores in one instruction. */
static bool is_atomic(const char *mnemonic) {
    static const char *const starts[] = {"ldadd",  "ldclr",  "ldeor",  "ldset",  "ldsmax", "ldsmin", "ldumax",
                                         "ldumin", "stadd",  "stclr",  "steor",  "stset",  "stsmax", "stsmin",
                                         "stumax", "stumin", "swp",    "cas",    NULL};
    return starts_with_one_of(mnemonic, starts);
}

/* stxr, stlxr, stxp...: the first operand says whether the store took place. */
static bool is_exclusive_store(const char *mnemonic) {
    return starts_with(mnemonic, "stx") || starts_with(mnemonic, "stlx");
}

static void add_source(Instruction *instruction, uint8_t number) {
    for (int i = 0; i < instruction->source_count; i++)
        if (instruction->sources[i] == number)
            return;
    if (instruction->source_count < MOST_SOURCES)
        instruction->sources[instruction->source_count++] = number;
}

static void add_destination(Instruction *instruction, uint8_t number) {
    for (int i = 0; i < instruction->destination_count; i++)
        if (instruction->destinations[i] == number)
            return;
    if (instruction->destination_count < MOST_DESTINATIONS)
        instruction->destinations[instruction->destination_count++] = number;
}

static void add_sources(Instruction *instruction, const Operand *operand) {
    for (int i = 0; i < operand->count; i++)
        add_source(instruction, operand->registers[i]);
}

static void add_destinations(Instruction *instruction, const Operand *operand) {
    for (int i = 0; i < operand->count; i++)
        add_destination(instruction, operand->registers[i]);
}

static void tell_kind_of_access(const Text *text, Instruction *instruction) {
    const char *mnemonic = text->mnemonic;
    bool atomic = text->memory >= 0 && is_atomic(mnemonic);
    bool literal = starts_with(mnemonic, "ldr") && text->memory < 0;
    instruction->branches = is_branch(mnemonic);
    instruction->loads = atomic || literal || (text->memory >= 0 && starts_with(mnemonic, "ld"));
    instruction->stores = atomic || (text->memory >= 0 && starts_with(mnemonic, "st"));
}

/* Which of the operands before the memory operand are written, for instructions that load or store. */
static bool access_writes(const Text *text, const Instruction *instruction, int index) {
    if (starts_with(text->mnemonic, "casp"))
        return index < 2;
    if (starts_with(text->mnemonic, "cas"))
        return index == 0;
    if (instruction->loads && instruction->stores)
        return index == 1; /* ldadd, swp; stadd has no second operand */
    if (instruction->stores)
        return index == 0 && is_exclusive_store(text->mnemonic);
    return true;
}

static bool access_reads(const Text *text, const Instruction *instruction, int index) {
    if (starts_with(text->mnemonic, "cas"))
        return true;
    return text->operands[index].kind == OPERAND_ELEMENT || !access_writes(text, instruction, index);
}

static void tell_registers_of_access(const Text *text, Instruction *instruction) {
    int data = text->memory >= 0 ? text->memory : text->count;
    for (int i = 0; i < data; i++) {
        if (access_reads(text, instruction, i))
            add_sources(instruction, &text->operands[i]);
        if (access_writes(text, instruction, i))
            add_destinations(instruction, &text->operands[i]);
    }
    for (int i = data; i < text->count; i++)
        add_sources(instruction, &text->operands[i]);
    if (text->memory < 0)
        return;
    const Operand *memory = &text->operands[text->memory];
    if ((memory->pre_indexed || text->post_indexed) && memory->count > 0) {
        instruction->written_back = memory->registers[0];
        add_destination(instruction, memory->registers[0]);
    }
}

static void tell_registers_of_branch(const Text *text, Instruction *instruction) {
    static const uint8_t link = 30;
    for (int i = 0; i < text->count; i++)
        add_sources(instruction, &text->operands[i]);
    if (starts_with(text->mnemonic, "ret") && text->count == 0)
        add_source(instruction, link);
    if (starts_with(text->mnemonic, "bl"))
        add_destination(instruction, link);
}

static bool writes_first_operand(const Text *text) {
    static const char *const names[] = {"msr", "sys", "dc", "ic", "at", "tlbi", NULL};
    return text->count > 0 && !only_compares(text->mnemonic) && !is_prefetch(text->mnemonic) &&
           !is_one_of(text->mnemonic, names);
}

/* The accumulator goes last even where it is also a factor, because it is then needed twice, at different times. */
static void add_accumulator(const Operand *operand, Instruction *instruction) {
    if (operand->count == 0)
        return; /* the zero register */
    instruction->accumulator = operand->registers[0];
    if (instruction->source_count < MOST_SOURCES)
        instruction->sources[instruction->source_count++] = operand->registers[0];
}

static void tell_registers_of_operation(const Text *text, Instruction *instruction) {
    bool writes = writes_first_operand(text);
    bool into_destination = writes && accumulates_into_destination(text->mnemonic);
    bool fourth = text->count >= 4 && accumulates_fourth(text->mnemonic);
    for (int i = 0; i < text->count; i++) {
        const Operand *operand = &text->operands[i];
        if (i == 0 && writes)
            add_destinations(instruction, operand);
        else if (!(i == 3 && fourth))
            add_sources(instruction, operand);
    }
    if (into_destination)
        add_accumulator(&text->operands[0], instruction);
    else if (fourth)
        add_accumulator(&text->operands[3], instruction);
    else if (writes && updates_destination(text))
        add_sources(instruction, &text->operands[0]);
}

static void tell_registers(const Text *text, Instruction *instruction) {
    if (instruction->branches)
        tell_registers_of_branch(text, instruction);
    else if (instruction->loads || instruction->stores)
        tell_registers_of_access(text, instruction);
    else
        tell_registers_of_operation(text, instruction);
    if (reads_flags(text->mnemonic))
        add_source(instruction, REGISTER_FLAGS);
    if (writes_flags(text->mnemonic))
        add_destination(instruction, REGISTER_FLAGS);
}

/* ---- Class and lanes ---- */

static bool is_fused_multiply_add(const char *mnemonic) {
    static const char *const starts[] = {"fmla",   "fmls",   "fmadd", "fmsub",  "fnmadd",
                                         "fnmsub", "fcmla", "bfdot", "bfmlal", "bfmmla", NULL};
    return starts_with_one_of(mnemonic, starts);
}

static bool is_other_floating_point(const char *mnemonic) {
    static const char *const starts[] = {"f", "scvtf", "ucvtf", "bfcvt", NULL};
    static const char *const moves[] = {"fmov", "fcsel", NULL};
    return starts_with_one_of(mnemonic, starts) && !is_one_of(mnemonic, moves);
}

static bool uses_vectors(const Text *text) {
    for (int i = 0; i < text->count; i++)
        if (text->operands[i].kind == OPERAND_VECTOR || text->operands[i].kind == OPERAND_ELEMENT)
            return true;
    return false;
}

static Class class_of(const Text *text, const Instruction *instruction) {
    if (instruction->branches)
        return CLASS_BRANCH;
    if (instruction->loads)
        return CLASS_LOAD;
    /* Zeroing a cache block is a store, but one whose address QEMU does not tell. */
    if (instruction->stores || (strcmp(text->mnemonic, "dc") == 0 && starts_with(text->operands[0].shape, "zva")))
        return CLASS_STORE;
    if (!uses_vectors(text))
        return CLASS_INTEGER;
    if (is_fused_multiply_add(text->mnemonic))
        return CLASS_FP_FMA;
    return is_other_floating_point(text->mnemonic) ? CLASS_FP_OTHER : CLASS_SIMD_OTHER;
}

/* Elements computed. Where the arrangements differ, the one of fewer elements tells: "fcvtn2 v.8h v.4s" computes 4, as
 * do "smlal2 v.4s v.8h v.8h" and "sdot v.4s v.16b v.16b"; and a reduction of "v.4s" into "s" takes 4. */
static uint8_t lanes_of(const Text *text) {
    uint8_t lanes = 0;
    for (int i = 0; i < text->count; i++) {
        uint8_t own = text->operands[i].lanes;
        if (own && (!lanes || own < lanes))
            lanes = own;
    }
    return lanes ? lanes : 1;
}

/* ---- The whole ---- */

bool decode(Decoder *decoder, uint32_t word, Instruction *instruction) {
    uint8_t bytes[4] = {(uint8_t)word, (uint8_t)(word >> 8), (uint8_t)(word >> 16), (uint8_t)(word >> 24)};
    const uint8_t *code = bytes;
    size_t size = sizeof bytes;
    uint64_t address = 0;
    memset(instruction, 0, sizeof *instruction);
    instruction->written_back = instruction->accumulator = NO_REGISTER;
    instruction->class = CLASS_INTEGER;
    if (!decoder->disassemble(decoder->handle, &code, &size, &address, decoder->instruction)) {
        snprintf(instruction->form, FORM_LENGTH, "word %08x", (unsigned)word);
        return false;
    }
    Text text;
    read_text(word, decoder->instruction->mnemonic, decoder->instruction->op_str, &text);
    write_form(&text, instruction->form);
    tell_kind_of_access(&text, instruction);
    tell_registers(&text, instruction);
    instruction->class = (uint8_t)class_of(&text, instruction);
    bool computes = instruction->class == CLASS_FP_FMA || instruction->class == CLASS_FP_OTHER ||
                    instruction->class == CLASS_SIMD_OTHER;
    instruction->lanes = computes ? lanes_of(&text) : 0;
    return true;
}
