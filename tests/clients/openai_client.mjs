// openai_client.mjs FOLDER URL: what the openai client for JavaScript (FOLDER/node_modules) is promised, against the server at URL.
import assert from "node:assert/strict";

const [folder, url] = process.argv.slice(2);
const { default: OpenAI } = await import(`${folder}/node_modules/openai/index.mjs`);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });
const model = (await client.models.list()).data[0].id;
const question = { model, messages: [{ role: "user", content: "What is the capital of France?" }], max_tokens: 32, temperature: 0 };

const { data: answer, request_id } = await client.chat.completions.create(question).withResponse();
assert.match(answer.choices[0].message.content, /Paris/);
assert.ok(request_id);

// The stream is the answer, with the usage in a chunk without choices.
let text = "", usage = null, chunks = 0;
for await (const chunk of await client.chat.completions.create({ ...question, stream: true, stream_options: { include_usage: true } })) {
  text += chunk.choices[0]?.delta.content ?? "";
  usage = chunk.choices.length ? usage : chunk.usage;
  chunks++;
}
assert.equal(text, answer.choices[0].message.content);
assert.deepEqual([usage.prompt_tokens, usage.completion_tokens], [answer.usage.prompt_tokens, answer.usage.completion_tokens]);
assert.ok(chunks > 3);

// Whoever leaves stops the generation: more endless answers than the server has places, and the next question is answered.
for (let i = 0; i < 3; i++) {
  const endless = await client.completions.create({ model, prompt: "The sea is", max_tokens: 4000, ignore_eos: true, stream: true });
  for await (const chunk of endless) {
    assert.equal(chunk.object, "text_completion");
    break;
  }
}
assert.match((await client.chat.completions.create(question)).choices[0].message.content, /Paris/);

// A schema's answer parses.
const properties = { name: { type: "string", maxLength: 20 }, old: { type: "boolean" } };
const schema = { type: "object", properties, required: ["name", "old"] };
const rome = await client.chat.completions.create({ ...question, max_tokens: 100, messages: [{ role: "user", content: "Describe Rome." }],
  response_format: { type: "json_schema", json_schema: { name: "city", strict: true, schema } } });
const city = JSON.parse(rome.choices[0].message.content);
assert.deepEqual([typeof city.name, typeof city.old], ["string", "boolean"]);

// Errors are objects with the fields of the interface.
await assert.rejects(client.completions.create({ model, prompt: "x", temperature: -1 }), e =>
  e instanceof OpenAI.BadRequestError && e.code === "invalid_value" && e.param === "temperature" && !!e.requestID);
await assert.rejects(client.models.retrieve("no-such-model"), e => e instanceof OpenAI.NotFoundError && e.code === "model_not_found");

// The client decodes base64 that it asked for: a vector of the wrong length would tell of a list sent instead.
try {
  const [{ embedding }] = (await client.embeddings.create({ model, input: "The sea" })).data;
  assert.ok(Math.abs(embedding.reduce((sum, x) => sum + x * x, 0) - 1) < 1e-3);
} catch (e) {
  assert.equal(e.status, 501, e);
  console.log("skipped: this server has no embeddings");
}
console.log("all of it holds");
