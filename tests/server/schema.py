"""Whether a JSON value fits a schema of OpenAI's description of its interface (OpenAPI 3.1, JSON Schema).

  Api(path).faults(value, "CreateChatCompletionResponse") → list of texts, empty: it fits

Known: type, nullable, const, enum, properties, required, additionalProperties, items, anyOf, oneOf, allOf, $ref, the numeric
and length bounds.  A keyword beyond these and plain annotations is an error: nothing passes because it was not understood.
discriminator only helps readers; format is checked by nobody."""
import json

ANNOTATIONS = {"title", "description", "default", "example", "examples", "format", "deprecated", "discriminator", "readOnly",
               "x-oaiMeta", "x-stainless-const", "x-oaiTypeLabel", "x-stainless-naming", "x-oaiExpandable", "externalDocs",
               "x-stainless-nominal", "xml", "writeOnly", "x-stainless-go-json", "x-oaiSupportedSDKs", "x-stainless-skip",
               "x-stainless-override-schema", "x-stainless-variantName", "x-stainless-go-variant-constructor", "x-oaiExperimental"}
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None), "number": (int, float), "integer": int}


def is_type(value, name):
    if isinstance(value, bool) and name in ("number", "integer"):
        return False
    return isinstance(value, TYPES[name])


class Api:
    def __init__(self, path):
        self.schemas = json.load(open(path, encoding="utf-8"))["components"]["schemas"]

    def faults(self, value, name):
        return self.check(value, self.schemas[name], "$")

    def check(self, v, s, at):
        if s is True or not s:
            return []
        unknown = {k for k in s if not hasattr(self, "_" + k.lstrip("$")) and k not in ANNOTATIONS}
        if unknown:
            raise ValueError(f"{at}: keywords {unknown}")
        if s.get("nullable") and v is None:
            return []
        out = []
        for k, arg in s.items():
            if k not in ANNOTATIONS:
                out += getattr(self, "_" + k.lstrip("$"))(v, arg, at, s)
        return out

    def _ref(self, v, ref, at, _):
        return self.check(v, self.schemas[ref.removeprefix("#/components/schemas/")], at)

    def _nullable(self, *_):
        return []

    def _type(self, v, names, at, _):
        names = [names] if isinstance(names, str) else names
        return [] if any(is_type(v, n) for n in names) else [f"{at}: {v!r:.60} is no {' or '.join(names)}"]

    def _enum(self, v, values, at, _):
        return [] if v in values else [f"{at}: {v!r} is none of {values}"]

    def _const(self, v, value, at, _):
        return [] if v == value else [f"{at}: {v!r} is not {value!r}"]

    def _required(self, v, names, at, _):
        return [f"{at}: {n} is missing" for n in names if n not in v] if isinstance(v, dict) else []

    def _properties(self, v, props, at, _):
        if not isinstance(v, dict):
            return []
        return [f for n, p in props.items() if n in v for f in self.check(v[n], p, f"{at}.{n}")]

    def _additionalProperties(self, v, s, at, whole):
        if not isinstance(v, dict):
            return []
        more = [n for n in v if n not in whole.get("properties", {})]
        if s is False:
            return [f"{at}: {n} is not known" for n in more]
        return [f for n in more for f in self.check(v[n], s, f"{at}.{n}")] if isinstance(s, dict) else []

    def _propertyNames(self, *_):
        return []

    def _items(self, v, s, at, _):
        return [f for i, x in enumerate(v) for f in self.check(x, s, f"{at}[{i}]")] if isinstance(v, list) else []

    def _allOf(self, v, parts, at, _):
        return [f for p in parts for f in self.check(v, p, at)]

    def _anyOf(self, v, parts, at, _):
        tried = [self.check(v, p, at) for p in parts]
        likest = min(tried, key=lambda faults: (any(f.startswith(f"{at}.type:") for f in faults), len(faults)))
        return [] if not all(tried) else [f"{at}: fits none of {len(parts)}: {likest}"]

    def _oneOf(self, v, parts, at, whole):  # the description's alternatives overlap: one or more
        return self._anyOf(v, parts, at, whole)

    def _bound(self, v, ok, at, what):
        return [] if isinstance(v, bool) or not isinstance(v, (int, float)) or ok else [f"{at}: {v} breaks {what}"]

    def _minimum(self, v, m, at, _):
        return self._bound(v, not isinstance(v, (int, float)) or v >= m, at, f"minimum {m}")

    def _maximum(self, v, m, at, _):
        return self._bound(v, not isinstance(v, (int, float)) or v <= m, at, f"maximum {m}")

    def _size(self, v, kind, ok, at, what):
        return [] if not isinstance(v, kind) or ok(len(v)) else [f"{at}: its length breaks {what}"]

    def _minLength(self, v, m, at, _):
        return self._size(v, str, lambda n: n >= m, at, f"minLength {m}")

    def _maxLength(self, v, m, at, _):
        return self._size(v, str, lambda n: n <= m, at, f"maxLength {m}")

    def _minItems(self, v, m, at, _):
        return self._size(v, list, lambda n: n >= m, at, f"minItems {m}")

    def _maxItems(self, v, m, at, _):
        return self._size(v, list, lambda n: n <= m, at, f"maxItems {m}")

    def _pattern(self, *_):
        return []

    def _exclusiveMinimum(self, v, m, at, _):
        return self._bound(v, not isinstance(v, (int, float)) or v > m, at, f"exclusiveMinimum {m}")
