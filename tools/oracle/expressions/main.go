// Records what Kubernetes 1.36 and Go say of expressions, for crates/expressions/tests to compare with.
//
//	go run . ../../../crates/expressions
//
// writes tests/corpus/*.jsonl and src/cel/declarations.tsv there.
package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"

	kjson "k8s.io/apimachinery/pkg/util/json"
)

func main() {
	crate := os.Args[1]
	corpus := filepath.Join(crate, "tests", "corpus")
	objects := readObjects(filepath.Join(corpus, "objects.json"))
	writeLines(filepath.Join(corpus, "jsonpaths.jsonl"), jsonPaths(objects))
	writeLines(filepath.Join(corpus, "cel.jsonl"), celExpressions(objects))
	writeLines(filepath.Join(corpus, "quantities.jsonl"), quantities())
	writeLines(filepath.Join(corpus, "patterns.jsonl"), patterns())
	if err := os.WriteFile(filepath.Join(crate, "src", "cel", "declarations.tsv"), declarations(), 0o644); err != nil {
		panic(err)
	}
}

// As the API server's clients decode an object: whole numbers of 64 bits are integers, the others floats.
func readObjects(path string) map[string]any {
	text, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	objects := map[string]any{}
	if err := kjson.Unmarshal(text, &objects); err != nil {
		panic(err)
	}
	return objects
}

func writeLines[T any](path string, rows []T) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	for _, row := range rows {
		if err := encoder.Encode(row); err != nil {
			panic(err)
		}
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil {
		panic(err)
	}
}
