/* find_tables.h — what was found for a concept, on the terminal; shared by `sae find` and `sae study`. The argument is the
 * document of find_result_to_json (analysis/json.h). */
#ifndef CLI_FIND_TABLES_H
#define CLI_FIND_TABLES_H

#include <jansson.h>
#include <stddef.h>

void find_print_gate(const json_t *found);

/* The best max of each ranking with what it must beat; detectors with `places` of their strongest places each. */
void find_print_detectors(const json_t *found, size_t max, size_t places);
void find_print_causes(const json_t *found, size_t max);

#endif
