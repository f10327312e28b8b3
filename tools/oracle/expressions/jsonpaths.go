package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"sort"
	"strings"

	"k8s.io/client-go/util/jsonpath"
)

type jsonPathRow struct {
	Path   string `json:"path"`
	Object string `json:"object"`
	// The path is not one.
	Refused bool `json:"refused,omitempty"`
	// It cannot be followed.
	Failed bool `json:"failed,omitempty"`
	// What it leads to, as JSON.
	Results []any  `json:"results,omitempty"`
	Printed string `json:"printed"`
	// Members of maps come in any order: results are compared as a bag, texts not at all.
	Unordered bool   `json:"unordered,omitempty"`
	Differs   string `json:"differs,omitempty"`
}

var jsonPathSources = []string{".", "..", ".metadata", ".metadata.name", ".metadata.labels.app", ".metadata.labels.app\\.kubernetes\\.io/name", `.metadata.labels['app\.kubernetes\.io/name']`, ".metadata.labels['app.kubernetes.io/name']", ".metadata.labels['app']", `.metadata.labels["app"]`, ".metadata['name']", ".metadata[name]", ".nope", ".nope.nope", ".nope[0]", ".nope[*]", ".metadata.name.nope", ".metadata.name[0]",
	".spec.replicas", ".spec.ratio", ".spec.big", ".spec.huge", ".spec.tiny", ".spec.negative", ".spec.null", ".spec.null.x", ".spec.null[0]", ".spec.null[*]", ".spec.flag", ".spec.off", ".spec.empty", ".spec.emptyList", ".spec.emptyList[0]", ".spec.emptyList[*]", ".spec.emptyMap", ".spec.emptyMap.*", ".spec.html", ".spec.unicode", ".spec.zero",
	".spec.containers", ".spec.containers[0]", ".spec.containers[0].name", ".spec.containers[1].name", ".spec.containers[3].name", ".spec.containers[9].name", ".spec.containers[-1].name", ".spec.containers[-2].name", ".spec.containers[-3].name", ".spec.containers[-9].name", ".spec.containers[*].name", ".spec.containers[:].name", ".spec.containers[].name", ".spec.containers[0:].name", ".spec.containers[:1].name", ".spec.containers[0:1].name", ".spec.containers[0:2].name", ".spec.containers[0:3].name", ".spec.containers[0:4].name", ".spec.containers[1:0].name", ".spec.containers[1:1].name", ".spec.containers[0:0].name", ".spec.containers[5:5].name", ".spec.containers[-2:].name", ".spec.containers[:-1].name", ".spec.containers[-3:-1].name", ".spec.containers[-1:-3].name", ".spec.containers[::2].name", ".spec.containers[0:3:2].name", ".spec.containers[1::1].name", ".spec.containers[::0].name", ".spec.containers[::-1].name", ".spec.containers[-1:].name", ".spec.containers[0:-0].name", ".spec.containers[1:2:3:4].name", ".spec.containers[a].name", ".spec.containers[0,1].name", ".spec.containers[0, 2].name", ".spec.containers[0,9].name", ".spec.containers[0,-1].name", ".spec.containers[*,0].name", ".spec.containers[0:2,2].name", ".spec.containers[0][name]", ".spec.containers[0]['name']", ".spec.containers[0]['name','image']", ".spec.containers[*]['name', 'image']", ".spec.containers[0]['name','nope']", ".spec['replicas','ratio']", ".spec[replicas,ratio]", ".spec.containers[99999999999999999999]", ".spec.containers[-]", ".spec.containers[+1]", ".spec.containers[ 0 ]", ".spec.containers[0 ].name", ".spec.containers[*",
	".spec.containers[*].resources.requests.cpu", ".spec.containers[*].resources.requests.memory", ".spec.containers[*].resources.requests.*", ".spec.containers[*].resources.limits.cpu", ".spec.containers[*].ports[*].containerPort", ".spec.containers[*].ports[0].containerPort", ".spec.containers[0].ports[*].name", ".spec.*", ".*", ".*.name", ".spec.containers.*.name", ".metadata.labels.*", ".metadata.name.*", ".spec.replicas.*", ".spec.matrix[*][*]", ".spec.matrix[0][1]", ".spec.matrix[*][0]", ".spec.matrix[1][-1]", ".spec.matrix..", ".spec.matrix[*]",
	"..name", "..containerPort", "..cpu", "..nope", ".spec..cpu", ".spec..name", "..containers[0].name", "..ports[*].containerPort", "..[0]", "..*", "...name", "....", "..['name']", "..metadata..app", ".spec..resources.requests.cpu", ".spec.containers..", ".metadata..", "..name..x", ".spec.containers[*]..cpu", ".. name", "..", ".x..",
	".spec.containers[?(@.name)].image", ".spec.containers[?(@.name==\"web\")].image", ".spec.containers[?(@.name=='web')].image", ".spec.containers[?(@.name == \"web\")].image", ".spec.containers[?(@.name!=\"web\")].image", ".spec.containers[?(@.name==web)].image", ".spec.containers[?(@.image=='registry.io/web:1')].name", ".spec.containers[?(@.priority>1)].name", ".spec.containers[?(@.priority>=2)].name", ".spec.containers[?(@.priority<2)].name", ".spec.containers[?(@.priority<=1)].name", ".spec.containers[?(@.priority==2)].name", ".spec.containers[?(@.priority==2.0)].name", ".spec.containers[?(@.priority!=2)].name", ".spec.containers[?(@.priority==\"2\")].name", ".spec.containers[?(@.weight>1)].name", ".spec.containers[?(@.weight>1.0)].name", ".spec.containers[?(@.weight>=0.5)].name", ".spec.containers[?(@.tty)].name", ".spec.containers[?(@.tty==true)].name", ".spec.containers[?(@.tty==false)].name", ".spec.containers[?(@.tty!=true)].name", ".spec.containers[?(@.tty<true)].name", ".spec.containers[?(@.nope)].name", ".spec.containers[?(@.nope==1)].name", ".spec.containers[?(@.ports)].name", ".spec.containers[?(@.ports[0])].name", ".spec.containers[?(@.ports[5])].name", ".spec.containers[?(@.ports==1)].name", ".spec.containers[?(@.ports[0].containerPort==80)].name", ".spec.containers[?(@.ports[*].containerPort==80)].name", ".spec.containers[?(@.resources.requests.cpu=='100m')].name", ".spec.containers[?(@.resources.requests['cpu']=='100m')].name", ".spec.containers[?(@.name>'s')].name", ".spec.containers[?(@.name<'s')].name", ".spec.containers[?(@.name=~'w.*')].name", ".spec.containers[?(@.name===\"web\")].name", ".spec.containers[?(@.name=)].name", ".spec.containers[?(=1)].name", ".spec.containers[?()].name", ".spec.containers[?(@)].name", ".spec.containers[?(@..cpu)].name", ".spec.containers[?(@.name==$.metadata.name)].name", ".spec.containers[?(\"web\"==@.name)].name", ".spec.containers[?(@.name=='we)b')].name", ".spec.containers[?(@.name==\"we'b\")].name", ".spec.containers[?(@.name=='w\\'b')].name", ".spec.containers[?(@.name=='web'].name", ".spec.containers[?(@.name=='web')", ".spec.containers[?(@.name=='web') ].name", ".spec.containers[?(@.name==\"a\" && @.x==\"b\")].name", ".spec.containers[?(@.ports[?(@.containerPort==80)])].name", ".spec.containers[?(@.null==1)].name", ".spec.replicas[?(@.x)]", ".spec[?(@.x)]", ".nope[?(@.x)]", ".spec.null[?(@.x)]", ".spec.matrix[?(@[0]==3)]", ".spec.matrix[?(@[0]>=1)][1]", ".spec.words[?(@==\"a\")]", ".spec.words[?(@!=\"a\")]", ".spec.mixed[?(@==1)]", ".spec.mixed[?(@)]", ".spec.containers[?(true)].name", ".spec.containers[?(1==1)].name", ".spec.containers[?(1==2)].name", ".spec.containers[?(1.5>1.4)].name",
	".spec.words", ".spec.words[*]", ".spec.words[0:2]", ".spec.mixed[*]", ".spec.mixed", ".spec.replicas range", ".spec.words[*] range", ".metadata.name end", ".metadata.name nope", ".metadata.name true", ".metadata.name false", ".metadata.name 1", ".metadata.name 1.5", ".metadata.name -1", ".metadata.name +1", ".metadata.name 1.2.3", ".metadata.name 'x'", ".metadata.name \"x y\"", ".metadata.name '\\n'", ".metadata.name \"\\u00e9\"", ".metadata.name '\\''", ".metadata.name '\\q'", ".metadata.name 'x", ".metadata.name ''", ".metadata.name @.x", ".metadata.name $", ".metadata$.name", ".metadata@.name", ".metadata .name", ".metadata . name", ".metadata. name", ". metadata.name", ".metadata.name ", ".metadata.name,", ".metadata,name", ".metadata-name", ".metadata.na-me", ".spec.dash-ed", ".spec.a_b", ".spec.with space", ".spec['with space']", ".spec.with\\ space", ".spec.dotted\\.key", ".spec['dotted\\.key']", ".spec['dotted.key']", ".spec.dotted.key", ".spec.quote'd", ".spec.star\\*", ".spec.über", ".spec['über']", ".spec.(x)", ".spec.x)", ".spec#", ".spec/x", ".spec=x", ".spec.a=b",
	"}{.metadata.name", ".metadata.name}{.spec.replicas", ".metadata.name} and {.spec.replicas", ".metadata.name}", "{.metadata.name", ".metadata.name}}", "}", ".spec.words[*]}{range .spec.containers[*]}{.name} {end", ".spec.x}{range .spec.containers[*]}{.name}{'\\n'}{end", ".x}{range .spec.containers[*]}{.name}{range .ports[*]}:{.containerPort}{end} {end}{.metadata.name", ".x}{range .nope[*]}{.name}{end}{.metadata.name", ".x}{range .spec.mixed[*]}<{@}>{end", ".x}{end", ".x}{range .spec.words[*]}{@}", ".x}{range .nope[*]}{.a[0]}{end", ".x}{range .spec.emptyList[*]}{@}{end} done",
	".spec.containers[0].name[0]", ".spec.containers[*][*]", ".spec.containers[0].*", ".spec.words[*][*]", ".spec.words[*].*", ".spec.words..", ".kind", ".apiVersion", ".status", ".status.conditions[?(@.type==\"Ready\")].status", ".status.conditions[?(@.type==\"Ready\")].lastTransitionTime", ".spec.resources.requests.storage", ".spec.template.spec.containers[*].image", "metadata.name", "$.metadata", "@", "", " ", ". ", ".\\", ".a\\", ".a\\.b", ".spec.int64", ".spec.float", ".spec.exp"}

func jsonPaths(objects map[string]any) []jsonPathRow {
	r := rand.New(rand.NewSource(11))
	parts := []string{".spec", ".metadata", ".name", ".containers", ".words", ".matrix", ".mixed", ".*", "[*]", "[0]", "[1]", "[-1]", "[0:2]", "[:1]", "[::2]", "[0,1]", "['name']", "['name','image']", "..", "..name", "..cpu", ".resources", ".requests", ".cpu", ".ports", ".containerPort", "[?(@.name)]", "[?(@.priority>1)]", "[?(@.name=='web')]", "[?(@.ports[0])]", " ", ".nope", ".null", " true", " 1", ".emptyList"}
	sources := append([]string{}, jsonPathSources...)
	for range 400 {
		path := ""
		for range 1 + r.Intn(5) {
			path += parts[r.Intn(len(parts))]
		}
		sources = append(sources, path)
	}
	rows := []jsonPathRow{}
	for _, source := range sources {
		rows = append(rows, jsonPath(source, "workload", objects["workload"]))
	}
	return rows
}

func jsonPath(source, name string, object any) jsonPathRow {
	row := jsonPathRow{Path: source, Object: name}
	// The rules that a path has beyond those of the library.
	if !strings.HasPrefix(source, ".") || len([]rune(source)) > 1024 || strings.ContainsAny(source, "\r\n\t") {
		row.Refused = true
		return row
	}
	template := "{" + source + "}"
	if err := jsonpath.New("path").Parse(template); err != nil {
		row.Refused = true
		return row
	}
	first, printed, err := run(template, object)
	if err != nil {
		row.Failed = true
		return row
	}
	row.Results, row.Printed = first, printed
	for range 200 {
		if _, again, _ := run(template, object); again != printed {
			row.Unordered = true
			row.Printed = ""
			sort.Slice(row.Results, func(i, j int) bool { return text(row.Results[i]) < text(row.Results[j]) })
			break
		}
	}
	return row
}

func text(value any) string {
	out, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return string(out)
}

func run(template string, object any) (results []any, printed string, err error) {
	// The library panics where a path goes on from a null of a loop: that is a failure as well.
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("panic: %v", reason)
		}
	}()
	path := jsonpath.New("path").AllowMissingKeys(true)
	if err := path.Parse(template); err != nil {
		return nil, "", err
	}
	found, err := path.FindResults(object)
	if err != nil {
		return nil, "", err
	}
	var out bytes.Buffer
	for _, block := range found {
		for _, value := range block {
			if value.IsValid() {
				results = append(results, value.Interface())
			} else {
				results = append(results, "<no value>")
			}
		}
		if err := path.PrintResults(&out, block); err != nil {
			return nil, "", err
		}
	}
	return results, out.String(), nil
}
