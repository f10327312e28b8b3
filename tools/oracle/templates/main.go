// Command templates answers template cases with Go's text/template and sprig, as the oracle of crates/templates.
//
//	go run . cases ../../../crates/templates/tests/corpus
//
// A case file holds one template a line. Lines that begin with "#!" set what the cases below them run with:
// "#!data JSON", "#!missingkey default|zero|error", "#!numbers float|integer". Other lines that begin with "#" are
// comments. "⏎" stands for a newline inside a template. Each file becomes one JSON array of the same name.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/Masterminds/sprig/v3"
	"sigs.k8s.io/yaml"
)

// clock is what `now` answers, here and in the test that reads the corpus.
var clock = time.Date(2026, time.March, 4, 5, 6, 7, 89_000_000, time.UTC)

type answer struct {
	Template   string          `json:"template"`
	Data       json.RawMessage `json:"data"`
	MissingKey string          `json:"missingkey"`
	Numbers    string          `json:"numbers"`
	Output     *string         `json:"output,omitempty"`
	Error      string          `json:"error,omitempty"`
}

func main() {
	time.Local = time.UTC
	if len(os.Args) != 3 {
		log.Fatal("usage: templates CASES CORPUS")
	}
	files, err := filepath.Glob(filepath.Join(os.Args[1], "*.txt"))
	if err != nil || len(files) == 0 {
		log.Fatalf("no case files in %s: %v", os.Args[1], err)
	}
	for _, file := range files {
		if err := answerFile(file, os.Args[2]); err != nil {
			log.Fatalf("%s: %v", file, err)
		}
	}
}

func answerFile(file, corpus string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	data, missingKey, numbers := json.RawMessage("null"), "default", "float"
	var lines []string
	for _, line := range strings.Split(string(text), "\n") {
		if setting, ok := strings.CutPrefix(line, "#!"); ok {
			key, value, _ := strings.Cut(setting, " ")
			switch key {
			case "data":
				data = json.RawMessage(value)
			case "missingkey":
				missingKey = value
			case "numbers":
				numbers = value
			default:
				return fmt.Errorf("unknown setting %q", line)
			}
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		a := answer{Template: strings.ReplaceAll(line, "⏎", "\n"), Data: data, MissingKey: missingKey, Numbers: numbers}
		if output, err := render(a); err != nil {
			a.Error = err.Error()
		} else {
			a.Output = &output
		}
		var encoded bytes.Buffer
		encoder := json.NewEncoder(&encoded)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(a); err != nil {
			return fmt.Errorf("%s: %w", line, err)
		}
		lines = append(lines, strings.TrimSpace(encoded.String()))
	}
	name := strings.TrimSuffix(filepath.Base(file), ".txt") + ".json"
	return os.WriteFile(filepath.Join(corpus, name), []byte("[\n"+strings.Join(lines, ",\n")+"\n]\n"), 0o644)
}

func render(a answer) (string, error) {
	parsed, err := template.New("case").Funcs(functions()).Option("missingkey=" + a.MissingKey).Parse(a.Template)
	if err != nil {
		return "", err
	}
	data, err := decode(a.Data, a.Numbers)
	if err != nil {
		log.Fatalf("data %s: %v", a.Data, err)
	}
	var out strings.Builder
	if err := parsed.Execute(&out, data); err != nil {
		return "", err
	}
	return out.String(), nil
}

// decode reads JSON as encoding/json does into any, or with whole numbers as int64, as Kubernetes does.
func decode(raw json.RawMessage, numbers string) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	if numbers == "integer" {
		decoder.UseNumber()
	}
	var data any
	if err := decoder.Decode(&data); err != nil {
		return nil, err
	}
	return withIntegers(data), nil
}

func withIntegers(value any) any {
	switch v := value.(type) {
	case json.Number:
		if i, err := v.Int64(); err == nil {
			return i
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = withIntegers(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = withIntegers(v[k])
		}
	}
	return value
}

func functions() template.FuncMap {
	funcs := sprig.TxtFuncMap()
	funcs["now"] = func() time.Time { return clock }
	funcs["toYaml"] = func(v any) (string, error) {
		out, err := yaml.Marshal(v)
		return strings.TrimSuffix(string(out), "\n"), err
	}
	funcs["fromYaml"] = func(text string) (any, error) {
		var v any
		err := yaml.Unmarshal([]byte(text), &v)
		return v, err
	}
	funcs["fromYamlArray"] = func(text string) ([]any, error) {
		var v []any
		err := yaml.Unmarshal([]byte(text), &v)
		return v, err
	}
	funcs["fromJsonArray"] = func(text string) ([]any, error) {
		var v []any
		err := json.Unmarshal([]byte(text), &v)
		return v, err
	}
	funcs["toToml"] = func(v any) (string, error) {
		var out bytes.Buffer
		err := toml.NewEncoder(&out).Encode(v)
		return out.String(), err
	}
	funcs["fromToml"] = func(text string) (map[string]any, error) {
		v := map[string]any{}
		err := toml.Unmarshal([]byte(text), &v)
		return v, err
	}
	for _, name := range []string{"env", "expandenv", "getHostByName"} {
		funcs[name] = func(...any) (string, error) { return "", errors.New("refused") }
	}
	return funcs
}
