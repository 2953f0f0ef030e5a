/// The service's description of itself, made from the routes that are served: what is not in the table is
/// neither served nor described.

#include <fmt/format.h>

#include <map>
#include <nlohmann/json.hpp>

#include "service/api.hpp"

namespace loracle::service {
namespace {

using Json = nlohmann::ordered_json;

// Bodies and answers, under the names the routes use.
constexpr std::string_view kSchemas = R"json({
"Object": {"type": "object"},
"Empty": {"type": "object", "additionalProperties": false},
"Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "object",
  "required": ["message", "type", "param", "code"], "properties": {
  "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
  "code": {"type": "integer", "description": "The HTTP status"}}}}},
"Unauthorized": {"type": "object", "required": ["error"],
  "properties": {"error": {"const": "Unauthorized"}}},
"LoadLoraAdapter": {"type": "object", "required": ["lora_name", "lora_path"], "properties": {
  "lora_name": {"type": "string", "minLength": 1},
  "lora_path": {"type": "string", "minLength": 1, "description": "A directory or a URI"},
  "load_inplace": {"type": "boolean", "default": false}, "is_3d_lora_weight": {"type": "boolean"}}},
"UnloadLoraAdapter": {"type": "object", "required": ["lora_name"], "properties": {
  "lora_name": {"type": "string", "minLength": 1}, "lora_int_id": {"type": ["integer", "null"]}}},
"Discovery": {"type": "object", "required": ["message", "discovered_adapters", "total_adapters"],
  "properties": {"message": {"type": "string"}, "discovered_adapters": {"type": "array",
  "items": {"type": "string"}}, "total_adapters": {"type": "integer"}}},
"ModelList": {"type": "object", "required": ["object", "data"], "properties": {"object": {"const": "list"},
  "data": {"type": "array", "items": {"type": "object", "required": ["id", "object", "created", "owned_by",
  "root", "parent", "max_model_len", "permission"]}}}},
"Adapter": {"type": "object", "required": ["name", "lora_int_id", "rank", "bytes", "residency", "loading",
  "slot", "pinned", "leases", "hits", "directory", "uri", "base_model"], "properties": {
  "name": {"type": "string"}, "lora_int_id": {"type": "integer", "minimum": 1},
  "rank": {"type": "integer"}, "bytes": {"type": "integer"},
  "residency": {"enum": ["device", "host", "storage"]}, "loading": {"type": "boolean"},
  "slot": {"type": ["integer", "null"]}, "pinned": {"type": "boolean"}, "leases": {"type": "integer"},
  "hits": {"type": "integer"}, "directory": {"type": ["string", "null"]}, "uri": {"type": ["string", "null"]},
  "base_model": {"type": ["string", "null"]}}},
"AdapterList": {"type": "object", "required": ["adapters", "next"], "properties": {
  "adapters": {"type": "array", "items": {"$ref": "#/components/schemas/Adapter"}},
  "next": {"type": ["string", "null"]}}},
"Tier": {"type": "object", "additionalProperties": false, "properties": {
  "tier": {"enum": ["device", "host"]}}},
"Pin": {"type": "object", "additionalProperties": false, "properties": {
  "tier": {"enum": ["device", "host"]}, "timeout_s": {"type": "number", "minimum": 0}}},
"LoadBatch": {"type": "object", "additionalProperties": false, "required": ["adapters"], "properties": {
  "adapters": {"type": "array", "minItems": 1, "maxItems": 1024, "items": {"type": "object",
  "additionalProperties": false, "required": ["name"], "properties": {
  "name": {"type": "string", "minLength": 1}, "uri": {"type": "string", "minLength": 1,
  "description": "Of an adapter that is not known yet, or of its new content"}}}},
  "timeout_s": {"type": "number", "minimum": 0}}},
"BatchOutcome": {"type": "object", "required": ["loaded", "failed"], "properties": {
  "loaded": {"type": "array", "items": {"type": "string"}}, "failed": {"type": "array", "items": {
  "type": "object", "required": ["name", "code", "message"], "properties": {"name": {"type": "string"},
  "code": {"type": "integer"}, "message": {"type": "string"}}}}}},
"LoadRefusal": {"anyOf": [{"$ref": "#/components/schemas/Error"},
  {"$ref": "#/components/schemas/BatchOutcome"}]},
"Resolved": {"type": "object", "required": ["name", "uri", "base_model", "known"], "properties": {
  "name": {"type": "string"}, "uri": {"type": "string"}, "base_model": {"type": "string"},
  "known": {"type": "boolean"}}},
"Acquire": {"type": "object", "additionalProperties": false, "properties": {
  "ttl_s": {"type": "number", "minimum": 0.1, "maximum": 3600, "default": 60},
  "timeout_s": {"type": "number", "minimum": 0}, "tenant": {"type": "string"},
  "files": {"type": "boolean", "default": false,
  "description": "The files must be on this machine: what is remote and has no copy here is fetched"}}},
"AcquireBatch": {"type": "object", "additionalProperties": false, "required": ["adapters"], "properties": {
  "adapters": {"type": "array", "minItems": 1, "maxItems": 256, "uniqueItems": true,
  "items": {"type": "string", "minLength": 1}},
  "ttl_s": {"type": "number", "minimum": 0.1, "maximum": 3600, "default": 60},
  "timeout_s": {"type": "number", "minimum": 0}, "tenant": {"type": "string"},
  "files": {"type": "boolean", "default": false,
  "description": "The files must be on this machine: what is remote and has no copy here is fetched"}}},
"Lease": {"type": "object", "required": ["lease", "expires_in_s", "name", "lora_int_id", "slot", "rank",
  "directory"], "properties": {"lease": {"type": "string"}, "expires_in_s": {"type": "number"},
  "name": {"type": "string"}, "lora_int_id": {"type": "integer"}, "slot": {"type": "integer"},
  "rank": {"type": "integer"}, "directory": {"type": ["string", "null"],
  "description": "Its files on this machine, kept until the lease ends; null: remote, no copy is known"}}},
"BatchLease": {"type": "object", "required": ["lease", "expires_in_s", "adapters"], "properties": {
  "lease": {"type": "string"}, "expires_in_s": {"type": "number"}, "adapters": {"type": "array",
  "items": {"type": "object", "required": ["name", "lora_int_id", "slot", "rank", "directory"]}}}},
"LeaseId": {"type": "object", "additionalProperties": false, "required": ["lease"], "properties": {
  "lease": {"type": "string", "minLength": 1}}},
"Renew": {"type": "object", "additionalProperties": false, "required": ["lease"], "properties": {
  "lease": {"type": "string", "minLength": 1}, "ttl_s": {"type": "number", "minimum": 0.1, "maximum": 3600,
  "default": 60}}},
"Released": {"type": "object", "required": ["released"], "properties": {"released": {"const": true}}},
"Renewed": {"type": "object", "required": ["lease", "expires_in_s"], "properties": {
  "lease": {"type": "string"}, "expires_in_s": {"type": "number"}}},
"Policy": {"type": "object", "additionalProperties": false, "minProperties": 1, "properties": {
  "device": {"type": "string"}, "host": {"type": "string"}}},
"Stats": {"type": "object"},
"Health": {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}
})json";

Json ref(std::string_view schema) { return {{"$ref", fmt::format("#/components/schemas/{}", schema)}}; }

Json answer_json(const HttpAnswerDoc& answer) {
  Json json = {{"description", answer.what}};
  if (answer.schema == "text") {
    json["content"]["text/plain"]["schema"] = {{"type", "string"}};
  } else if (answer.schema == "events") {
    json["content"]["text/event-stream"]["schema"] = {{"type", "string"}};
  } else {
    json["content"]["application/json"]["schema"] = ref(answer.schema);
  }
  return json;
}

Json parameters_of(const HttpRoute& route) {
  Json parameters = Json::array();
  for (std::string_view rest = route.path; rest.find('{') != std::string_view::npos;) {
    rest.remove_prefix(rest.find('{') + 1);
    parameters.push_back({{"name", rest.substr(0, rest.find('}'))},
                          {"in", "path"},
                          {"required", true},
                          {"schema", {{"type", "string"}, {"minLength", 1}}}});
  }
  for (const HttpQueryDoc& field : route.query)
    parameters.push_back({{"name", field.name},
                          {"in", "query"},
                          {"required", field.is_required},
                          {"description", field.what},
                          {"schema", Json::parse(field.schema, nullptr, false)}});
  return parameters;
}

std::string operation_id_of(const HttpRoute& route) {
  std::string id;
  for (const char c : fmt::format("{}{}", route.method, route.path)) {
    if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_')
      id += c;
    else if (c >= 'A' && c <= 'Z')
      id += static_cast<char>(c - 'A' + 'a');
    else if (c != '{' && c != '}' && id.back() != '_')
      id += '_';
  }
  return id;
}

Json operation_of(const HttpRoute& route, const Json& schemas) {
  Json json = {{"operationId", operation_id_of(route)}, {"summary", route.summary}};
  if (Json parameters = parameters_of(route); !parameters.empty()) json["parameters"] = std::move(parameters);
  if (!route.body.empty()) {
    json["requestBody"]["required"] = schemas[std::string(route.body)].contains("required");
    json["requestBody"]["content"]["application/json"]["schema"] = ref(route.body);
  }
  for (const HttpAnswerDoc& answer : route.answers)
    json["responses"][std::to_string(answer.status)] = answer_json(answer);
  if (route.path.starts_with("/v1/")) {
    json["responses"]["401"] = answer_json({401, "Unauthorized", "The API key is missing or wrong"});
    json["security"] = Json::array({{{"bearer", Json::array()}}});
  }
  return json;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = static_cast<char>(c - 'A' + 'a');  // methods are capitals
  return out;
}

}  // namespace

std::string openapi_of(const std::vector<HttpRoute>& routes, const ServiceConfig& config) {
  Json json = {{"openapi", "3.1.0"},
               {"info",
                {{"title", "loracle"},
                 {"description",
                  "LoRA adapters, kept one step from the GPU. Refusals that any route may give: "
                  "400, 408, 411, 413, 414, 415, 431 and 503 for requests that are malformed, "
                  "too slow, too large or too many."},
                 {"version", LORACLE_VERSION}}},
               {"paths", Json::object()}};
  Json& schemas = json["components"]["schemas"];
  schemas = Json::parse(kSchemas, nullptr, false);
  for (const char* body : {"Pin", "LoadBatch", "Acquire", "AcquireBatch"})
    schemas[body]["properties"]["timeout_s"]["maximum"] = config.http.request_timeout_ms / 1000.0;
  for (const HttpRoute& route : routes)
    json["paths"][std::string(route.path)][lower(route.method)] = operation_of(route, schemas);
  json["components"]["securitySchemes"]["bearer"] = {{"type", "http"}, {"scheme", "bearer"}};
  return json.dump();
}

}  // namespace loracle::service
