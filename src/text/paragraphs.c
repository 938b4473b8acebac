/* The paragraphs that the models were trained to see, byte for byte: data, not prose of ours.  FM_GAP stands where the
 * schemas of the tools, or of the answer, are put in; lengths and digests (SHA-256) leave it out.  Checked by
 * tests/test_chat.c; models.md §12 has the same numbers where it states them. */
#include <string.h>

#include "text/chat_impl.h"

// clang-format off
const struct fm_paragraph fm_paragraphs[FM_PARAGRAPH_COUNT] = {
    [FM_PARAGRAPH_V31_TOOLS] = {
        .source = "the model card of DeepSeek-V3.1",
        .n = 540,
        .sha256 = "4f3a8e6303e184890062e8f8b59e9fcd3dc14ab3c450f3328ef4240e110e701a",
        .text = "## Tools\n"
                "You have access to the following tools:\n"
                "\n"
                FM_GAP
                "IMPORTANT: ALWAYS adhere to this exact format for tool use:\n"
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>tool_call_name<｜tool▁sep｜>tool_call_arguments<｜tool▁call▁end｜>{additional_tool_calls}<｜tool▁calls▁end｜>\n"
                "\n"
                "Where:\n"
                "- `tool_call_name` must be an exact match to one of the available tools\n"
                "- `tool_call_arguments` must be valid JSON that strictly follows the tool's Parameters Schema\n"
                "- For multiple tool calls, chain them directly without separators or spaces"},
    [FM_PARAGRAPH_V32_TOOLS] = {
        .source = "DeepSeek-V3.2, encoding/encoding_dsv32.py",
        .n = 1147,
        .sha256 = "8dc0ae780567338a686768374742d8690e8039d3ec6e3649ff94740764f5cca1",
        .text = "## Tools\n"
                "\n"
                "You have access to a set of tools you can use to answer the user's question.\n"
                "You can invoke functions by writing a \"<｜DSML｜function_calls>\" block like the following as part "
                "of your reply to the user:\n"
                "<｜DSML｜function_calls>\n"
                "<｜DSML｜invoke name=\"$FUNCTION_NAME\">\n"
                "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
                "...\n"
                "</｜DSML｜invoke>\n"
                "<｜DSML｜invoke name=\"$FUNCTION_NAME2\">\n"
                "...\n"
                "</｜DSML｜invoke>\n"
                "</｜DSML｜function_calls>\n"
                "\n"
                "String and scalar parameters should be specified as is without any escaping or quotes, while lists "
                "and objects should use JSON format. The \"string\" attribute should be set to \"true\" for string "
                "type parameters and \"false\" for other types (numbers, booleans, arrays, objects).\n"
                "\n"
                "If the thinking_mode is enabled, then after function results you should strongly consider "
                "outputting a thinking block. Here is an example:\n"
                "\n"
                "<｜DSML｜function_calls>\n"
                "...\n"
                "</｜DSML｜function_calls>\n"
                "\n"
                "<function_results>\n"
                "...\n"
                "</function_results>\n"
                "\n"
                "<think>...thinking about results</think>\n"
                "\n"
                "Here are the functions available in JSONSchema format:\n"
                "<functions>\n"
                FM_GAP
                "\n"
                "</functions>\n"},
    [FM_PARAGRAPH_V4_TOOLS] = {
        .source = "DeepSeek-V4, encoding/encoding_dsv4.py",
        .n = 989,
        .sha256 = "c7d3159308f7d076bee8974ece110fda1f92f6e577306e602ba2b466b4dcd904",
        .text = "## Tools\n"
                "\n"
                "You have access to a set of tools to help answer the user's question. You can invoke tools by "
                "writing a \"<｜DSML｜tool_calls>\" block like the following:\n"
                "\n"
                "<｜DSML｜tool_calls>\n"
                "<｜DSML｜invoke name=\"$TOOL_NAME\">\n"
                "<｜DSML｜parameter name=\"$PARAMETER_NAME\" string=\"true|false\">$PARAMETER_VALUE</｜DSML｜parameter>\n"
                "...\n"
                "</｜DSML｜invoke>\n"
                "<｜DSML｜invoke name=\"$TOOL_NAME2\">\n"
                "...\n"
                "</｜DSML｜invoke>\n"
                "</｜DSML｜tool_calls>\n"
                "\n"
                "String parameters should be specified as is and set `string=\"true\"`. For all other types "
                "(numbers, booleans, arrays, objects), pass the value in JSON format and set `string=\"false\"`.\n"
                "\n"
                "If thinking_mode is enabled (triggered by <think>), you MUST output your complete reasoning inside "
                "<think>...</think> BEFORE any tool calls or final response.\n"
                "\n"
                "Otherwise, output directly after </think> with tool calls or final response.\n"
                "\n"
                "### Available Tool Schemas\n"
                "\n"
                FM_GAP
                "\n"
                "\n"
                "You MUST strictly follow the above defined tool name and parameter schemas to invoke tool calls.\n"},
    [FM_PARAGRAPH_FORMAT] = {
        .source = "DeepSeek-V3.2 and V4, encoding/",
        .n = 80,
        .sha256 = "5200f58413f49f3957c43beddbc97bead023232cb5934fad0c1997c30c139112",
        .text = "## Response Format:\n"
                "\n"
                "You MUST strictly adhere to the following schema to reply:\n"
                FM_GAP},
    [FM_PARAGRAPH_EFFORT] = {
        .source = "DeepSeek-V4, encoding/encoding_dsv4.py: effort max; high since July 31",
        .n = 476,
        .sha256 = "f7a24f3b3050d4a83781e9b755b316aae2ec1d9dc87562541d90bcb04d7350f7",
        .text = "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
                "You MUST be very thorough in your thinking and comprehensively decompose the problem to resolve the "
                "root cause, rigorously stress-testing your logic against all potential paths, edge cases, and "
                "adversarial scenarios.\n"
                "Explicitly write out your entire deliberation process, documenting every intermediate step, "
                "considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "
                "unchecked.\n"
                "\n"},
    [FM_PARAGRAPH_EFFORT_MORE] = {
        .source = "DeepSeek-V4, chat template of July 31: effort max",
        .n = 528,
        .sha256 = "53fb31b8392ec5b4a926481943efc67636748f137c1a49d493a7af4d4fa55d2c",
        .text = "Reasoning Effort: Beyond maximum — exhaustive, relentless, and uncompromising.\n"
                "You MUST reason with the utmost depth and rigor, leaving absolutely nothing to chance: exhaustively "
                "decompose the problem into its most fundamental components, trace every causal chain to its root, "
                "and resolve the underlying cause rather than any surface symptom.\n"
                "Do not stop reasoning until you have independently verified the solution from multiple angles and "
                "are certain that no assumption remains unchecked and no error remains undiscovered.\n"
                "\n"},
    [FM_PARAGRAPH_LLAMA_TOOLS] = {
        .source = "Llama 3.1, chat template",
        .n = 267,
        .sha256 = "8f36ecf7b07dbfd6d06ccfad7a36db42a004cc8122b4584c61afa8b9bece1f42",
        .text = "Given the following functions, please respond with a JSON for a function call with its proper "
                "arguments that best answers the given prompt.\n"
                "\n"
                "Respond in the format {\"name\": function name, \"parameters\": dictionary of argument name and its "
                "value}.Do not use variables.\n"
                "\n"},
    [FM_PARAGRAPH_QWEN_TOOLS] = {
        .source = "Qwen 2.5 and 3, chat template",
        .n = 371,
        .sha256 = "10975fbd75ecf78a7a76d5292811b3cbbc676592a468c0827bd41f0c5502a12d",
        .text = "# Tools\n"
                "\n"
                "You may call one or more functions to assist with the user query.\n"
                "\n"
                "You are provided with function signatures within <tools></tools> XML tags:\n"
                "<tools>"
                FM_GAP
                "\n"
                "</tools>\n"
                "\n"
                "For each function call, return a json object with function name and arguments within "
                "<tool_call></tool_call> XML tags:\n"
                "<tool_call>\n"
                "{\"name\": <function-name>, \"arguments\": <args-json-object>}\n"
                "</tool_call>"},
};
// clang-format on

void fm_put_paragraph(struct fm_prompt *p, enum fm_paragraph_id id)
{
    const char *s = fm_paragraphs[id].text;
    fm_prompt_trusted(p, s, strcspn(s, FM_GAP));
}

void fm_put_paragraph_end(struct fm_prompt *p, enum fm_paragraph_id id)
{
    const char *s = strchr(fm_paragraphs[id].text, FM_GAP[0]);
    if (s) fm_prompt_trusted(p, s + 1, strlen(s + 1));
}
