// Loads deploy folders in transformers.js from local files alone; prints outputs, and labels of classifiers, as JSON.
// Arguments: the folder above the deploy folders, then JSON {"folders": {name: head}, "texts": [...]}.
import * as transformers from "@huggingface/transformers";

const [root, request] = process.argv.slice(2);
const { folders, texts } = JSON.parse(request);
const CLASSES = {
  "sequence-classification": transformers.AutoModelForSequenceClassification,
  "question-answering": transformers.AutoModelForQuestionAnswering,
  "encoder": transformers.AutoModel,
};
transformers.env.allowRemoteModels = false;
transformers.env.localModelPath = root;

const answers = {};
for (const [folder, head] of Object.entries(folders)) {
  const tokenizer = await transformers.AutoTokenizer.from_pretrained(folder);
  const model = await CLASSES[head].from_pretrained(folder, { dtype: "fp32" });
  const outputs = await model(await tokenizer(texts, { padding: true }));
  const tensors = Object.entries(outputs).filter(([, value]) => value?.dims);
  answers[folder] = { outputs: Object.fromEntries(tensors.map(([name, value]) => [name, value.tolist()])) };
  if (head === "sequence-classification") {
    const classify = await transformers.pipeline("text-classification", folder, { dtype: "fp32" });
    answers[folder].labels = (await classify(texts)).map((answer) => answer.label);
  }
}
console.log(JSON.stringify(answers));
