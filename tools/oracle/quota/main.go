// Says what Kubernetes' own quota evaluators make of pods, services and volume claims.
//
// It reads cases.yaml, adds pods drawn by chance (always the same ones), and writes for each what its use is, what it
// fails to specify, and which scopes it is in: go run . > ../../../crates/tenancy/tests/recorded/quota_usage.json
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	quota "k8s.io/apiserver/pkg/quota/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/kubernetes/pkg/quota/v1/evaluator/core"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/yaml"
)

// The moment at which everything is looked at.
var now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// What a quota could demand to be specified.
var demanded = []corev1.ResourceName{"cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory", "pods"}

var selectors = []corev1.ScopedResourceSelectorRequirement{
	{ScopeName: "Terminating", Operator: "Exists"},
	{ScopeName: "NotTerminating", Operator: "Exists"},
	{ScopeName: "BestEffort", Operator: "Exists"},
	{ScopeName: "NotBestEffort", Operator: "Exists"},
	{ScopeName: "CrossNamespacePodAffinity", Operator: "Exists"},
	{ScopeName: "PriorityClass", Operator: "Exists"},
	{ScopeName: "PriorityClass", Operator: "DoesNotExist"},
	{ScopeName: "PriorityClass", Operator: "In", Values: []string{"high", "higher"}},
	{ScopeName: "PriorityClass", Operator: "NotIn", Values: []string{"high"}},
	{ScopeName: "VolumeAttributesClass", Operator: "Exists"},
	{ScopeName: "VolumeAttributesClass", Operator: "DoesNotExist"},
	{ScopeName: "VolumeAttributesClass", Operator: "In", Values: []string{"fast", "faster"}},
	{ScopeName: "VolumeAttributesClass", Operator: "NotIn", Values: []string{"fast"}},
}

type given struct {
	Name   string          `json:"name"`
	Kind   string          `json:"kind"`
	Object json.RawMessage `json:"object"`
}

type said struct {
	given
	Usage       corev1.ResourceList `json:"usage"`
	MustSpecify string              `json:"mustSpecify,omitempty"`
	// One letter for each selector: whether the object is in the scope.
	Scopes string `json:"scopes"`
}

func main() {
	text, err := os.ReadFile("cases.yaml")
	check(err)
	var cases []given
	check(yaml.UnmarshalStrict(text, &cases))
	chance := rand.New(rand.NewPCG(7, 7))
	for i := range 200 {
		object, err := json.Marshal(pod(chance))
		check(err)
		cases = append(cases, given{Name: fmt.Sprintf("by chance %d", i), Kind: "Pod", Object: object})
	}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	scopes, err := json.Marshal(selectors)
	check(err)
	fmt.Fprintf(out, "{\"now\": %q,\n\"selectors\": %s,\n\"cases\": [\n", now.Format(time.RFC3339), scopes)
	for i, one := range cases {
		line, err := json.Marshal(evaluate(one))
		check(err)
		comma := ","
		if i == len(cases)-1 {
			comma = ""
		}
		fmt.Fprintf(out, "%s%s\n", line, comma)
	}
	fmt.Fprintln(out, "]}")
}

func evaluate(one given) said {
	nothing := func(schema.GroupVersionResource) (cache.GenericLister, error) { return nil, nil }
	var evaluator quota.Evaluator
	var object runtime.Object
	switch one.Kind {
	case "Pod":
		evaluator, object = core.NewPodEvaluator(nothing, clocktesting.NewFakeClock(now)), &corev1.Pod{}
	case "Service":
		evaluator, object = core.NewServiceEvaluator(nothing), &corev1.Service{}
	case "PersistentVolumeClaim":
		evaluator, object = core.NewPersistentVolumeClaimEvaluator(nothing), &corev1.PersistentVolumeClaim{}
	default:
		panic(one.Kind)
	}
	if err := yaml.UnmarshalStrict(one.Object, object); err != nil {
		panic(fmt.Sprintf("%s: %v", one.Name, err))
	}
	answer := said{given: one}
	if err := evaluator.Constraints(demanded, object); err != nil {
		answer.MustSpecify = err.Error()
	}
	for _, selector := range selectors {
		matched, err := evaluator.MatchingScopes(object, []corev1.ScopedResourceSelectorRequirement{selector})
		check(err)
		if len(matched) == 1 {
			answer.Scopes += "y"
		} else {
			answer.Scopes += "-"
		}
	}
	usage, err := evaluator.Usage(object)
	check(err)
	answer.Usage = usage
	return answer
}

// A pod whose resources are stated in all the ways at once.
func pod(chance *rand.Rand) *corev1.Pod {
	pod := &corev1.Pod{}
	for i := range 1 + chance.IntN(3) {
		name := fmt.Sprintf("c%d", i)
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name, Resources: resources(chance)})
		if chance.IntN(3) == 0 {
			pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, status(chance, name))
		}
	}
	for i := range chance.IntN(4) {
		name := fmt.Sprintf("i%d", i)
		container := corev1.Container{Name: name, Resources: resources(chance)}
		if chance.IntN(2) == 0 {
			always := corev1.ContainerRestartPolicyAlways
			container.RestartPolicy = &always
		}
		pod.Spec.InitContainers = append(pod.Spec.InitContainers, container)
		if chance.IntN(3) == 0 {
			pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, status(chance, name))
		}
	}
	if chance.IntN(3) == 0 {
		ofPod := resources(chance)
		pod.Spec.Resources = &ofPod
	}
	if chance.IntN(4) == 0 {
		pod.Spec.Overhead = list(chance)
	}
	if chance.IntN(4) == 0 {
		reason := []string{"Infeasible", "Deferred"}[chance.IntN(2)]
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: reason}}
	}
	if chance.IntN(5) == 0 {
		pod.Status.Phase = []corev1.PodPhase{corev1.PodRunning, corev1.PodFailed, corev1.PodSucceeded}[chance.IntN(3)]
	}
	if chance.IntN(5) == 0 {
		grace := int64(chance.IntN(60))
		deleted := metav1.NewTime(now.Add(-time.Duration(chance.IntN(60)) * time.Second))
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &deleted, &grace
	}
	if chance.IntN(3) == 0 {
		pod.Spec.PriorityClassName = []string{"high", "higher", "low"}[chance.IntN(3)]
	}
	return pod
}

func status(chance *rand.Rand, name string) corev1.ContainerStatus {
	status := corev1.ContainerStatus{Name: name, AllocatedResources: list(chance)}
	if chance.IntN(3) > 0 {
		actuated := resources(chance)
		status.Resources = &actuated
	}
	return status
}

func resources(chance *rand.Rand) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{Requests: list(chance), Limits: list(chance)}
}

func list(chance *rand.Rand) corev1.ResourceList {
	amounts := map[corev1.ResourceName][]string{
		"cpu":                   {"0", "100m", "250m", "1", "1500m"},
		"memory":                {"0", "64Mi", "1Gi", "100M", "1"},
		"ephemeral-storage":     {"1Gi", "10M"},
		"hugepages-2Mi":         {"2Mi", "64Mi"},
		"example.com/gpu":       {"1", "2"},
		"requests.example.com/": {"1"},
		"kubernetes.io/odd":     {"3"},
	}
	list := corev1.ResourceList{}
	// In a fixed order, so that chance is the same every time.
	for _, name := range []corev1.ResourceName{"cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "example.com/gpu", "requests.example.com/", "kubernetes.io/odd"} {
		rarity := 4
		if name == "cpu" || name == "memory" {
			rarity = 2
		}
		if chance.IntN(rarity) == 0 {
			list[name] = resource.MustParse(amounts[name][chance.IntN(len(amounts[name]))])
		}
	}
	return list
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
