/* Field values, NVLink, PCIe and the fabric. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nvml_mock.h"

#define LINK_STATE 165
#define LAST_FIELD 309

/* Fields whose value is an unsigned int; the others are unsigned long long. */
static const unsigned short_fields[] = {1, 31, 91, 92, 93, 94, 144, 145, 165, 230};

typedef struct {
    uint32_t field, scope; int64_t timestamp, latency; uint32_t type, ret;
    union { double d; uint32_t u; uint16_t us; uint64_t ull; } value;
} field_value_t;
typedef struct {
    uint32_t version; uint8_t cluster[16]; uint32_t status, clique; uint8_t state; uint32_t health; uint8_t summary;
} fabric_t;

/* The value of one link if the file has it, else the field's. */
static const char *field_text(int index, const field_value_t *value)
{
    char key[32];
    if (value->field == LINK_STATE) snprintf(key, sizeof key, "linkstate.%u", value->scope);
    else snprintf(key, sizeof key, "field.%u.%u", value->field, value->scope);
    const char *text = text_of(index, key);
    snprintf(key, sizeof key, "field.%u", value->field);
    return text ? text : text_of(index, key);
}

/* Only the bytes of the value's own type are set: the type gives their number. */
static void put_value(field_value_t *value, unsigned long long number)
{
    memset(&value->value, 0xA5, sizeof value->value);
    switch (value->type) {
    case 0: value->value.d = (double)number; break;
    case 1: case 5: value->value.u = (uint32_t)number; break;
    case 6: value->value.us = (uint16_t)number; break;
    default: value->value.ull = number;
    }
}

static int type_of(unsigned field)
{
    for (unsigned i = 0; i < sizeof short_fields / sizeof *short_fields; i++)
        if (short_fields[i] == field) return 1;
    return 3;
}

/* The driver does not know fields beyond `node lastfield`. */
int nvmlDeviceGetFieldValues(void *device, int count, field_value_t *values)
{
    char key[32];
    ENTER(nvmlDeviceGetFieldValues);
    if (!values || count <= 0) return INVALID_ARGUMENT;
    for (int i = 0; i < count; i++) {
        field_value_t *value = &values[i];
        const char *text = field_text(index, value);
        snprintf(key, sizeof key, "fieldret.%u", value->field);
        int is_known = value->field && value->field <= (unsigned)node_number("lastfield", LAST_FIELD);
        value->ret = (uint32_t)(is_known ? number_of(index, key, text ? SUCCESS : NOT_SUPPORTED) : INVALID_ARGUMENT);
        snprintf(key, sizeof key, "fieldtype.%u", value->field);
        value->type = (uint32_t)number_of(index, key, type_of(value->field));
        put_value(value, text ? strtoull(text, NULL, 0) : 0);
    }
    return SUCCESS;
}

int nvmlDeviceGetNvLinkState(void *device, unsigned link, uint32_t *out)
{
    char key[32];
    ENTER(nvmlDeviceGetNvLinkState);
    if (!number_of(index, "links", 0)) return NOT_SUPPORTED;
    if (link >= (unsigned)number_of(index, "links", 0)) return INVALID_ARGUMENT;
    snprintf(key, sizeof key, "link.%u", link);
    *out = (uint32_t)number_of(index, key, 1);
    return SUCCESS;
}

NUMBER(nvmlDeviceGetCurrPcieLinkWidth, uint32_t, "pcie.width", 16)
NUMBER(nvmlDeviceGetMaxPcieLinkWidth, uint32_t, "pcie.maxwidth", 16)
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, uint32_t, "pcie.generation", 5)
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, uint32_t, "pcie.maxgeneration", 5)

#ifndef MOCK_OLD
/* Version 3 has the summary; a driver before it is `fabricversion 2`. */
int nvmlDeviceGetGpuFabricInfoV(void *device, fabric_t *out)
{
    ENTER(nvmlDeviceGetGpuFabricInfoV);
    uint32_t version = out->version >> 24, size = out->version & 0xFFFFFF;
    if (version == 3 ? size != sizeof(fabric_t) : version != 2 || size != offsetof(fabric_t, summary))
        return VERSION_MISMATCH;
    if (version > (uint32_t)number_of(index, "fabricversion", 3)) return VERSION_MISMATCH;
    if (is_before(index, HOPPER)) return NOT_SUPPORTED;
    out->state = (uint8_t)number_of(index, "fabric", 3);
    out->status = (uint32_t)number_of(index, "fabricstatus", 0);
    out->health = (uint32_t)number_of(index, "fabrichealth", 0);
    if (version == 3) out->summary = (uint8_t)number_of(index, "fabricsummary", 0);
    return SUCCESS;
}
#endif
