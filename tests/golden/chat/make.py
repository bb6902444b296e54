"""Writes templates.json: chat templates of the kinds that models come with, and constructs one by one, rendered by Jinja2 (3.1) in
the environment that Hugging Face's apply_chat_template sets up.

    python make.py [FOLDER OF MORE *.jinja FILES, OUTPUT]
"""
import datetime
import json
import sys
from pathlib import Path

import jinja2
import jinja2.ext
from jinja2.sandbox import ImmutableSandboxedEnvironment

DAY = datetime.datetime(2024, 7, 26)
SYSTEM = {"role": "system", "content": "  Answer in one line. "}
USER = {"role": "user", "content": "Who was 李白?\n"}
REPLY = {"role": "assistant", "content": "\nA poet <b>&\"quoted\"</b>."}
TALKS = [[USER], [SYSTEM, USER], [USER, REPLY, USER], [SYSTEM, USER, REPLY, USER], [USER, USER], []]

# In the manner of the families' own templates: the same markers, statements and filters, without what concerns tools.
FAMILIES = {
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful AI assistant<|im_end|>\\n' }}"
               "{% endif %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
    "llama2": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}"
              "{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}"
              "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
              "{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
              "{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}"
              "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "llama3": "{{- bos_token }}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n        {%- set date_string = strftime_now(\"%d %b %Y\") %}\n    {%- endif %}\n{%- endif %}\n"
              "{%- if not tools is defined %}\n    {%- set tools = none %}\n{%- endif %}\n{#- the system message #}\n{%- if messages[0]['role'] == 'system' %}\n"
              "    {%- set system_message = messages[0]['content']|trim %}\n    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- endif %}\n"
              "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{%- if tools is not none %}\n    {{- \"Environment: ipython\\n\" }}\n{%- endif %}\n"
              "{{- \"Today Date: \" + date_string + \"\\n\\n\" }}\n{{- system_message }}\n{{- \"<|eot_id|>\" }}\n{%- for message in messages %}\n"
              "    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}\n"
              "        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}\n"
              "    {%- elif 'tool_calls' in message %}\n        {%- if not message.tool_calls|length == 1 %}\n            {{- raise_exception(\"one tool-call at once\") }}\n        {%- endif %}\n    {%- endif %}\n"
              "{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
    "mistral": "{%- set user_messages = messages | selectattr(\"role\", \"equalto\", \"user\") | list %}\n{%- set ns = namespace() %}\n{%- set ns.index = 0 %}\n{%- for message in messages %}\n"
               "    {%- if not (message.role == \"tool\" or (message.tool_calls is defined and message.tool_calls is not none)) %}\n        {%- if message.role == \"user\" %}\n"
               "            {%- set ns.index = ns.index + 1 %}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n\n{{- bos_token }}\n{%- for message in messages %}\n"
               "    {%- if message[\"role\"] == \"user\" %}\n        {%- if message == user_messages[-1] %}\n            {{- \"[LAST \" ~ ns.index ~ \"]\" }}\n        {%- endif %}\n"
               "        {{- \"[INST]\" + message[\"content\"] + \"[/INST]\" }}\n    {%- elif message[\"role\"] == \"assistant\" %}\n        {{- message[\"content\"]|trim + eos_token}}\n    {%- endif %}\n{%- endfor %}\n",
    "qwen3": "{%- set ns = namespace(multi_step=true, last=messages|length - 1) %}\n{%- for message in messages[::-1] %}\n    {%- set index = (messages|length - 1) - loop.index0 %}\n"
             "    {%- if ns.multi_step and message.role == \"user\" and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}\n"
             "        {%- set ns.multi_step = false %}\n        {%- set ns.last = index %}\n    {%- endif %}\n{%- endfor %}\n{%- for message in messages %}\n"
             "    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) %}\n        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n"
             "    {%- elif message.role == \"assistant\" %}\n        {%- set content = message.content %}\n        {%- set thought = '' %}\n"
             "        {%- if message.reasoning is defined and message.reasoning is not none %}\n            {%- set thought = message.reasoning %}\n        {%- elif '</b>' in content %}\n"
             "            {%- set content = message.content.split('</b>')[-1].lstrip('\\n') %}\n            {%- set thought = message.content.split('</b>')[0].rstrip('\\n').split('<b>')[-1].lstrip('\\n') %}\n        {%- endif %}\n"
             "        {%- if loop.index0 > ns.last or (loop.last and thought) %}\n            {{- 'T' + thought.strip('\\n') }}\n        {%- endif %}\n        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>\\n' }}\n"
             "    {%- endif %}\n{%- endfor %}\n{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n    {%- if enable_thinking is defined and enable_thinking is false %}\n        {{- '<think>\\n\\n</think>\\n\\n' }}\n    {%- endif %}\n{%- endif %}",
    "qwen2": "{%- if tools %}\n    {{- '<|im_start|>system\\n' }}\n    {%- if messages[0]['role'] == 'system' %}\n        {{- messages[0]['content'] }}\n    {%- endif %}\n{%- else %}\n"
             "    {%- if messages[0]['role'] == 'system' %}\n        {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n    {%- else %}\n"
             "        {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}\n    {%- endif %}\n{%- endif %}\n{%- for message in messages %}\n"
             "    {%- if (message.role == \"user\") or (message.role == \"system\" and not loop.first) or (message.role == \"assistant\" and not message.tool_calls) %}\n"
             "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- elif message.role == \"tool\" %}\n"
             "        {%- if (loop.index0 == 0) or (messages[loop.index0 - 1].role != \"tool\") %}\n            {{- '<|im_start|>user' }}\n        {%- endif %}\n    {%- endif %}\n{%- endfor %}\n"
             "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}"
             "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
             "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
             "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}",
    "gemma3": "{{ bos_token }}\n{%- if messages[0]['role'] == 'system' -%}\n    {%- if messages[0]['content'] is string -%}\n        {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}\n    {%- else -%}\n"
              "        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' -%}\n    {%- endif -%}\n    {%- set loop_messages = messages[1:] -%}\n{%- else -%}\n    {%- set first_user_prefix = \"\" -%}\n"
              "    {%- set loop_messages = messages -%}\n{%- endif -%}\n{%- for message in loop_messages -%}\n    {%- set role = \"model\" if message['role'] == 'assistant' else message['role'] -%}\n"
              "    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else \"\") }}\n    {%- if message['content'] is string -%}\n        {{ message['content'] | trim }}\n"
              "    {%- elif message['content'] is iterable -%}\n        {%- for item in message['content'] -%}\n            {%- if item['type'] == 'image' -%}\n                {{ '<start_of_image>' }}\n            {%- endif -%}\n        {%- endfor -%}\n"
              "    {%- else -%}\n        {{ raise_exception(\"Invalid content type\") }}\n    {%- endif -%}\n    {{ '<end_of_turn>\n' }}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    {{'<start_of_turn>model\n'}}\n{%- endif -%}\n",
    "phi3": "{% for message in messages %}{% if message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}"
            "{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}"
            "{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}",
    "olmo2": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'system' %}{{ '<|system|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'user' %}"
             "{{ '<|user|>\n' + message['content'] + '\n' }}{% elif message['role'] == 'assistant' %}{% if not loop.last %}{{ '<|assistant|>\n'  + message['content'] + eos_token + '\n' }}{% else %}"
             "{{ '<|assistant|>\n'  + message['content'] + eos_token }}{% endif %}{% endif %}{% if loop.last and add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}{% endfor %}",
    "granite": "{%- if tools and not available_tools -%}\n    {%- set available_tools = tools -%}\n{%- endif -%}\n{%- if messages[0]['role'] == 'system' %}\n     {%- set system_message = messages[0]['content'] %}\n"
               "     {%- set loop_messages = messages[1:] %}\n {%- else %}\n     {%- set system_message = \"Today's Date: \" + strftime_now('%B %d, %Y') + \".\" %}\n"
               "     {%- if 'citations' in controls and documents %}\n         {%- set system_message = system_message + ' Cite.' %}\n     {%- endif %}\n     {%- set loop_messages = messages %}\n {%- endif %}\n"
               " {{- '<|start_of_role|>system<|end_of_role|>' + system_message + '<|end_of_text|>\n' }}\n {%- if available_tools %}\n     {{- available_tools | tojson(indent=4) }}\n {%- endif %}\n"
               " {%- for message in loop_messages %}\n     {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\n' }}\n"
               "     {%- if loop.last and add_generation_prompt %}\n         {{- '<|start_of_role|>assistant' }}\n             {%- if controls %}\n                 {{- ' ' + controls | tojson()}}\n             {%- endif %}\n"
               "         {{- '<|end_of_role|>' }}\n     {%- endif %}\n {%- endfor %}",
    "smollm3": "{# ── defaults ── #}\n{%- if enable_thinking is not defined -%}\n{%- set enable_thinking = true -%}\n{%- endif -%}\n{%- if enable_thinking -%}\n  {%- set mode = \"/think\" -%}\n{%- else -%}\n"
               "  {%- set mode = \"/no_think\" -%}\n{%- endif -%}\n{{- \"<|im_start|>system\\n\" -}}\n{%- if messages[0].role == \"system\" -%}\n  {%- set text = messages[0].content -%}\n"
               "  {%- if \"/no_think\" in text -%}\n    {%- set mode = \"/no_think\" -%}\n  {%- elif \"/think\" in text -%}\n    {%- set mode = \"/think\" -%}\n  {%- endif -%}\n"
               "  {%- set instructions = text.replace(\"/no_think\", \"\").replace(\"one\", \"two\").rstrip() -%}\n{%- endif -%}\n{{- \"Reasoning Mode: \" + mode + \"\\n\\n\" -}}\n"
               "{%- if instructions -%}\n  {{- instructions + \"\\n\\n\" -}}\n{%- endif -%}\n{%- for message in messages -%}\n  {%- set content = message.content if message.content is string else \"\" -%}\n"
               "  {%- if message.role == \"user\" -%}\n    {{ \"<|im_start|>\" + message.role + \"\\n\" + content + \"<|im_end|>\\n\" }}\n  {%- elif message.role == \"assistant\" -%}\n    {% generation %}\n"
               "    {%- if mode == \"/think\" -%}\n      {{ \"<|im_start|>assistant\\n\" + content.lstrip(\"\\n\") + \"<|im_end|>\\n\" }}\n    {%- endif -%}\n    {% endgeneration %}\n  {%- endif -%}\n{%- endfor -%}\n"
               "{%- if add_generation_prompt -%}\n  {{ \"<|im_start|>assistant\\n\" }}\n{%- endif -%}\n",
}

# One construct each; rendered for the fourth talk.
CONSTRUCTS = [
    "a\n  {% if true %}\n  b\n  {% endif %}\n c\n", "a {%- if true -%} \n b {%- endif %} c", "{%+ if true %}x{% endif +%}\ny", "  {# one #}\nx  {#- two -#}  y\n\n",
    "x\n\n", "{{ 'a' 'b' \"c\" }}{{ 'q\\'\\\\\\t\\x41\\u674e\\z' }}", "{{ '\\7\\1012\\U0001f319\\777' }}|{{ 'a\\\nb' }}", "{{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 * 3 + 4 - 1 }} {{ -3 + 5 }}",
    "{{ 1 < 2 }} {{ 'a' >= 'b' }} {{ 1 == true }} {{ 'a' != 'a' }} {{ none }} {{ nothing }}|", "{{ 'a' in 'cat' }} {{ 'role' in messages[0] }} {{ 'x' not in ['x', 'y'] }} {{ 2 in [1, 2] }}",
    "{{ not true or true and false }} {{ not (true or true) }} {{ 'x' if false }}|{{ 'x' if false else 'y' if false else 'z' }}",
    "{{ 0 or '' or 'last' }} {{ 1 and 2 and 3 }} {{ nothing or 'b' }}", "{{ messages[-1]['content'] | trim | length }} {{ messages|length }} {{ '李白'|length }} {{ {}|length }}",
    "{{ '  x '|trim }}| {{ 'xxaxx'.strip('x') }} {{ 'xyaxy'.rstrip('yx') }} {{ '\\u3000a\\u00a0'.lstrip() }}|", "{{ 'Ab'|upper }} {{ 'ÄB'.lower() }} {{ 'uSER'|capitalize }}",
    "{{ 'a-b-c'.split('-')[1] }} {{ 'abc'[0] }}{{ 'abc'[-1] }} {{ '李白x'[1:] }} {{ 'abcd'[:-1] }} {{ 'abcd'[1:3] }} {{ 'abcd'[5:] }}|", "{{ 'aXbX'.replace('X', '--') }} {{ 'aXb'|replace('X', '') }}",
    "{% for m in messages[::-1] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.length }}{{ loop.first }}{{ loop.last }} {{ m.role }};{% endfor %}",
    "{% for m in messages[1:3] %}{{ m['role'] }}{% endfor %} {% for m in messages[-2:] %}{{ m['role'] }}{% endfor %} {% for m in messages[:-3] %}{{ m.role }}{% endfor %}",
    "{% for m in messages if m.role != 'user' %}{{ loop.index }}{{ m.role }}{{ loop.last }}{% else %}none{% endfor %}", "{% for m in [] %}x{% else %}empty{% endfor %}", "{% for m in nothing %}x{% endfor %}ok",
    "{% set x = 1 %}{% for i in range(3) %}{% set x = x + i %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(x=1, y='a') %}{% for i in range(1, 4) %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}",
    "{% for i in range(6) %}{% if i == 1 %}{% continue %}{% endif %}{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}", "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in messages[0] %}{{ k }} {% endfor %}{{ messages[0].get('x', 'no') }}{{ messages[0].get('role') }}", "{{ messages[1] | tojson }} {{ [1, 'a\\n\\\"', none, true] | tojson }} {{ 'a/<&>'|tojson }}",
    "{{ ['a', 'b'] | join(', ') }} {{ [1, 2] | first }} {{ [1, 2] | last }}", "{{ nothing is defined }} {{ messages is defined }} {{ none is none }} {{ 'a' is string }} {{ 1 is number }} {{ {} is mapping }} {{ [] is iterable }} {{ true is true }} {{ false is false }} {{ 1 is not string }}",
    "{{ nothing | default('d') }} {{ '' | default('d', true) }} {{ 3 | string + 'x' }} {{ 'a' ~ 1 ~ none }}", "{{ messages | selectattr('role', 'equalto', 'user') | list | length }} {{ messages | rejectattr('role', 'equalto', 'user') | list | length }}",
    "{{ tools is none }} {{ documents is none }} {{ bos_token }} {{ eos_token }} {{ unk_token }}|", "{% if messages[0].tool_calls %}x{% elif messages[9] is defined %}y{% else %}z{% endif %}", "{% set x = {'a': [1, {'b': 'deep'}]} %}{{ x.a[1]['b'] }}{{ x['a'][0] }}",
    "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%Y-%m-%d') }} {{ strftime_now('%B %A') }}", "{{ raise_exception('no ' + messages[0]['role']) }}", "{{ nothing.x }}", "{{ nothing + 'a' }}", "{{ messages[0].x.y }}", "{{ loop.first }}",
    "{% for a in [1, 2] %}{% for b in [3, 4] %}{{ loop.index0 }}{% endfor %}{{ loop.index0 }}{% endfor %}", "{{ 'a' is in ['a'] }} {{ 3 is eq 3 }} {{ (1 if true else 2) + 1 }} {{ ('a')|upper }} {{ -1|string }}", "a\r\n{% if true %}\r\nb\r{% endif %}c",
    "{{ [1] + [2, 3] == [1, 2, 3] }} {{ messages[0] == messages[0] }} {{ {'a': 1} == {'a': 1} }}",
]

REFUSED = {  # Jinja has them, we do not: what the sentence must name
    "{% macro f(x) %}{{ x }}{% endmacro %}": "macro", "{% include 'x' %}": "include", "{% import 'x' as y %}": "import", "{% raw %}x{% endraw %}": "raw", "{% call f() %}{% endcall %}": "call",
    "{% filter upper %}x{% endfilter %}": "filter", "{% set x %}y{% endset %}": "set", "{{ 'a' | xmlattr }}": "xmlattr", "{{ 'a'.encode() }}": "encode", "{{ ''.__class__ () }}": "__class__", "{{ 1 / 2 }}": "/",
    "{{ 1.5 }}": "fraction", "{{ '\\N{BULLET}' }}": "escape", "{{ '\\x4' }}": "escape", "{{ '\\ud83d' }}": "escape", "{{ x is divisibleby 3 }}": "divisibleby", "{{ lipsum() }}": "lipsum", "{{ cycler(1) }}": "cycler", "{{ messages }}": "list", "{{ 2 ** 60 }}": "**", "{{ 1 < 2 < 3 }}": "comparisons",
    "{{ messages | tojson(indent=4) }}": "indent", "{% for m in messages recursive %}{% endfor %}": "recursive", "{{ (1, 2) }}": "tuples", "{{ 'x' }": "end of the tag", "{{ 'x": "without an end", "{{ 'x' * 3 }}": "arithmetic", "{{ '%s' | format(1) }}": "format", "{% if true %}": "endif",
    "{% endif %}": "endif", "{{ }}": "expression", "{# x": "without an end", "{{ a b }}": "end of the tag",
}


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = DAY.strftime
    return env


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


def case(template, messages):
    known = {"messages": messages, "add_generation_prompt": True, "tools": None, "documents": None, "bos_token": "<s>", "eos_token": "</s>"}
    try:
        return {"template": template, "messages": messages, "text": environment().from_string(template).render(**known)}
    except Exception as why:
        return {"template": template, "messages": messages, "error": str(why)}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        cases = [{"name": f.name, **case(f.read_text(), t)} for f in sorted(Path(sys.argv[1]).glob("*.jinja")) for t in TALKS]
        out = Path(sys.argv[2])
    else:
        cases = [{"name": n, **case(t, talk)} for n, t in FAMILIES.items() for talk in TALKS]
        cases += [{"name": f"construct {i}", **case(t, TALKS[3])} for i, t in enumerate(CONSTRUCTS)]
        cases += [{"name": f"refused {i}", "template": t, "messages": TALKS[3], "refused": why} for i, (t, why) in enumerate(REFUSED.items())]
        out = Path(__file__).with_name("templates.json")
    out.write_text("[\n" + ",\n".join(json.dumps(c, ensure_ascii=False) for c in cases) + "\n]\n")
    print(len(cases), "cases", sum("error" in c for c in cases), "errors")
