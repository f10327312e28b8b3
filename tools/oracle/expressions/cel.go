package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"
	"github.com/google/cel-go/interpreter"
	apicel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

type celRow struct {
	Expression string `json:"expression"`
	Object     string `json:"object"`
	// It is not an expression: by its syntax, its types or its constants.
	Refused bool   `json:"refused,omitempty"`
	Type    string `json:"type,omitempty"`
	// It has no value for this object.
	Failed bool `json:"failed,omitempty"`
	// It costs more than an expression may.
	Expensive bool   `json:"expensive,omitempty"`
	Value     string `json:"value,omitempty"`
	Cost      uint64 `json:"cost,omitempty"`
	// Members of maps come in any order, and with it the cost.
	Unordered bool   `json:"unordered,omitempty"`
	Differs   string `json:"differs,omitempty"`
	// For the reader of a refusal or a failure. Not compared.
	Reason string `json:"reason,omitempty"`
}

func celEnvironment() *cel.Env {
	set, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Extend(environment.VersionedOptions{
		IntroducedVersion: environment.DefaultCompatibilityVersion(),
		EnvOptions:        []cel.EnvOption{cel.Variable("object", cel.DynType)},
	})
	if err != nil {
		panic(err)
	}
	env, err := set.Env(environment.NewExpressions)
	if err != nil {
		panic(err)
	}
	return env
}

func celExpressions(objects map[string]any) []celRow {
	env := celEnvironment()
	rows := []celRow{}
	for _, expression := range celSources() {
		row := celExpression(env, expression, "workload", objects["workload"])
		if row.Expression == "" && expression != "" {
			continue
		}
		row.Differs = celDiffers[expression]
		rows = append(rows, row)
	}
	return rows
}

func celExpression(env *cel.Env, expression, name string, object any) celRow {
	row := celRow{Expression: expression, Object: name}
	refuse := func(err error) celRow {
		row.Refused, row.Reason = true, firstLine(err)
		return row
	}
	if len(expression) > 4096 {
		return refuse(errors.New("longer than a source may be"))
	}
	ast, issues := env.Compile(expression)
	if issues.Err() != nil {
		return refuse(issues.Err())
	}
	program, err := env.Program(ast, cel.InterruptCheckFrequency(1000))
	if err != nil {
		return refuse(err)
	}
	row.Type = celType(ast.OutputType())
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	start := time.Now()
	value, details, err := program.ContextEval(ctx, map[string]any{"object": object})
	if time.Since(start) > 2*time.Second {
		fmt.Fprintln(os.Stderr, "too slow for the corpus:", expression)
		return celRow{}
	}
	if details != nil && details.ActualCost() != nil {
		row.Cost = *details.ActualCost()
	}
	if err != nil {
		var cancelled interpreter.EvalCancelledError
		row.Failed, row.Reason = true, firstLine(err)
		row.Expensive = errors.As(err, &cancelled) && cancelled.Cause == interpreter.CostLimitExceeded
		return row
	}
	row.Value = celValue(value)
	// What goes over a map stops where it stops.
	for range 40 {
		if time.Since(start) > 100*time.Millisecond {
			break
		}
		if _, again, err := program.Eval(map[string]any{"object": object}); err == nil && *again.ActualCost() != row.Cost {
			row.Unordered, row.Cost = true, 0
			break
		}
	}
	return row
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	if len(line) > 200 {
		line = line[:200]
	}
	return line
}

func celType(found *types.Type) string {
	switch found.Kind() {
	case types.DynKind, types.AnyKind, types.TypeParamKind:
		return "dyn"
	case types.NullTypeKind:
		return "null"
	case types.DurationKind:
		return "duration"
	case types.TimestampKind:
		return "timestamp"
	case types.TypeKind:
		return "type"
	}
	name := found.TypeName()
	if name == "optional_type" {
		name = "optional"
	}
	if len(found.Parameters()) == 0 {
		return name
	}
	parameters := []string{}
	for _, parameter := range found.Parameters() {
		parameters = append(parameters, celType(parameter))
	}
	return name + "(" + strings.Join(parameters, ", ") + ")"
}

func quote(text string) string {
	var out bytes.Buffer
	if err := json.NewEncoder(&out).Encode(text); err != nil {
		panic(err)
	}
	return strings.TrimSpace(out.String())
}

// The value as the Rust side writes it.
func celValue(value ref.Val) string {
	switch v := value.(type) {
	case types.Null:
		return "null"
	case types.Uint:
		return fmt.Sprintf("%du", uint64(v))
	case types.Double:
		if math.IsInf(float64(v), 0) || math.IsNaN(float64(v)) {
			return fmt.Sprint(float64(v))
		}
		return fmt.Sprint(float64(v))
	case types.String:
		return quote(string(v))
	case types.Bytes:
		return fmt.Sprintf("%x", []byte(v))
	case types.Duration:
		return string(v.ConvertToType(types.StringType).(types.String))
	case types.Timestamp:
		return v.Time.Format("2006-01-02T15:04:05.999999999Z07:00")
	case *types.Optional:
		if v.HasValue() {
			return "optional(" + celValue(v.GetValue()) + ")"
		}
		return "optional.none()"
	case *types.Type:
		return v.TypeName()
	case apicel.Quantity:
		return canonical(*v.Quantity)
	case *apicel.Quantity:
		return canonical(*v.Quantity)
	case apicel.IP:
		return v.Addr.String()
	case apicel.CIDR:
		return v.Prefix.String()
	case apicel.URL:
		return "url"
	case apicel.Semver:
		return v.Version.String()
	case apicel.Format:
		return strings.ToLower(v.Name[:3]) + v.Name[3:]
	case traits.Mapper:
		entries := []string{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			entries = append(entries, celValue(key)+":"+celValue(v.Get(key)))
		}
		sort.Strings(entries)
		return "{" + strings.Join(entries, ",") + "}"
	case traits.Lister:
		elements := []string{}
		for it := v.Iterator(); it.HasNext() == types.True; {
			elements = append(elements, celValue(it.Next()))
		}
		return "[" + strings.Join(elements, ",") + "]"
	default:
		return fmt.Sprint(value.Value())
	}
}

// All functions and their overloads, but for those of a library whose values no expression over an object can have.
func declarations() []byte {
	env := celEnvironment()
	names := []string{}
	for name := range env.Functions() {
		names = append(names, name)
	}
	sort.Strings(names)
	var out bytes.Buffer
	for _, name := range names {
		for _, overload := range env.Functions()[name].OverloadDecls() {
			args := []string{}
			for _, arg := range overload.ArgTypes() {
				args = append(args, declaredType(arg))
			}
			fmt.Fprintf(&out, "%s\t%s\t%v\t%s\t%s\n", name, overload.ID(), overload.IsMemberFunction(), strings.Join(args, ";"), declaredType(overload.ResultType()))
		}
	}
	return out.Bytes()
}

func declaredType(declared *types.Type) string {
	name := declared.TypeName()
	switch declared.Kind() {
	case types.TypeParamKind:
		return "?" + name
	case types.DynKind, types.AnyKind:
		return "dyn"
	}
	if len(declared.Parameters()) == 0 {
		return name
	}
	parameters := []string{}
	for _, parameter := range declared.Parameters() {
		parameters = append(parameters, declaredType(parameter))
	}
	return name + "(" + strings.Join(parameters, ",") + ")"
}
