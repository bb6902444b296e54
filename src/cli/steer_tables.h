/* steer_tables.h — what steering did, on the terminal; shared by `sae steer` and `sae study`. */
#ifndef CLI_STEER_TABLES_H
#define CLI_STEER_TABLES_H

#include <jansson.h>

/* A line for each arm of steering_arm_to_json: how many texts mention the words, repetition, perplexity. */
void steer_print_arms(const json_t *arms);

/* outputs[] {prompt, unsteered, steered}, one below the other: all when there are at most max, else the first of each prompt. */
void steer_print_outputs(const json_t *outputs, size_t max);

#endif
