//go:build ignore

// Records what Kubernetes' quantities and Go's regular expressions say, for ../recorded.rs to compare with.
//
// Run it in a module that requires k8s.io/apimachinery (tools/kubernetes-1.36 does):
//
//	cd tools/kubernetes-1.36 && go run ../../crates/tenancy/tests/recorded/record.go ../../crates/tenancy/tests/recorded
package main

import (
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
)

func main() {
	write("quantities.tsv", "# text\tcanonical form, or ! if it is refused", quantities())
	write("sums.tsv", "# a\tb\ta+b\ta-b\tcomparison", sums())
	write("patterns.tsv", "# pattern\tvalue\twhether it matches, or ! if the pattern is refused (Go strings)", patterns())
}

func write(name, header string, lines []string) {
	content := header + "\n" + strings.Join(lines, "\n") + "\n"
	if err := os.WriteFile(filepath.Join(os.Args[1], name), []byte(content), 0o644); err != nil {
		panic(err)
	}
}

var suffixes = []string{"", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E-3", "e+2", "e0", "e18", "e-9", "K", "ki", "e", "x"}

func number(r *rand.Rand) string {
	digits := func(n int) string {
		s := ""
		for range n {
			s += string(rune('0' + r.Intn(10)))
		}
		return s
	}
	sign := []string{"", "", "", "-", "+"}[r.Intn(5)]
	switch r.Intn(6) {
	case 0:
		return sign + digits(1+r.Intn(3)) + "." + digits(r.Intn(14))
	case 1:
		return sign + "." + digits(1+r.Intn(12))
	case 2:
		return sign + digits(15+r.Intn(10))
	case 3:
		return sign + fmt.Sprint(1<<r.Intn(40))
	case 4:
		return sign + digits(1+r.Intn(3)) + "000"
	default:
		return sign + digits(1+r.Intn(6))
	}
}

func quantities() []string {
	r := rand.New(rand.NewSource(1))
	texts := []string{"", "-", "+", ".", "-.", "0", "-0", "0.0", "00", "1.", ".5", "1e", "1e+", "1e1.5", "1E", "1E2", "12e2",
		"9223372036854775807", "9223372036854775808", "-9223372036854775808", "8Ei", "10E", "0.1n", "-0.1n", "0.0001Ki", "1.5Ki",
		"1023", "1024", "1023Ki", "1024Ki", "1025Ki", "0.5Ki", "0.9999999999Ki", "1 ", " 1", "1Gi ", "0x1", "1_000", "1,5"}
	for range 600 {
		text := number(r) + suffixes[r.Intn(len(suffixes))]
		if quantity, err := resource.ParseQuantity(text); err == nil && huge(quantity) {
			continue
		}
		texts = append(texts, text)
	}
	lines := []string{}
	for _, text := range texts {
		quantity, err := resource.ParseQuantity(text)
		said := "!"
		if err == nil {
			said = canonical(quantity)
		}
		lines = append(lines, text+"\t"+said)
	}
	return lines
}

// Beyond, Kubernetes' own text of a quantity may stand for another one: 19000E is written as 19.
func huge(quantity resource.Quantity) bool {
	return quantity.Cmp(resource.MustParse("999E")) > 0 || quantity.Cmp(resource.MustParse("-999E")) < 0
}

// Not String(), which repeats what was parsed if that is near enough.
func canonical(quantity resource.Quantity) string {
	number, suffix := quantity.CanonicalizeBytes(nil)
	return string(number) + string(suffix)
}

func sums() []string {
	r := rand.New(rand.NewSource(2))
	lines := []string{}
	for len(lines) < 300 {
		a, errA := resource.ParseQuantity(number(r) + suffixes[r.Intn(len(suffixes)-3)])
		b, errB := resource.ParseQuantity(number(r) + suffixes[r.Intn(len(suffixes)-3)])
		if errA != nil || errB != nil || huge(a) || huge(b) {
			continue
		}
		// The text is what the reader of the table starts from.
		a, b = resource.MustParse(canonical(a)), resource.MustParse(canonical(b))
		sum, difference := a.DeepCopy(), a.DeepCopy()
		sum.Add(b)
		difference.Sub(b)
		lines = append(lines, fmt.Sprintf("%s\t%s\t%s\t%s\t%d", canonical(a), canonical(b), canonical(sum), canonical(difference), a.Cmp(b)))
	}
	return lines
}

func patterns() []string {
	sources := []string{"", "a", "^a$", "^(a|b)-.*$", `^\Qa.b\E$`, `\Q[`, `\Q`, `a\Q.\E+b`, "^[[a]$", "^[]a]$", "^[^]a]$", "^[a&&b]+$", "^[a~~b]+$",
		"^[[:digit:]x]+$", "^[[:^digit:]]+$", "[[:word:]", `^\<a\>$`, "(?i)^GOLD$", "(?s).", "(?m)^b$", "(?P<n>a)", "(?<n>a)", "(", "[", "*", "a**", "a{2,1}",
		"a{1001}", `\d+`, `\w+-\w+`, `^\S+$`, `\bprod\b`, `\pL+`, `\p{Greek}`, `\x41`, `\x{41}`, `\.`, `\-`, `a\/b`, `^\w[\w.-]*\w$`, "^.{1,63}$",
		`^(dev|test|prod)$`, `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`, `^gold-[0-9]{2}$`, "^[a-]$", "^[-a]$", `^[\]]$`, `^[\^]$`, "^[a^]$", `[\w[]`, `[[\]]`, `^[^[:space:]]+$`,
		`(?:a|b)+?c`, `^a|b$`, `a||b`, `()`, `(|a)b`, `\A\z`, `\Aa`, `\C`, `\1`, `(?=a)`, `(?!a)`, `(?x) a`, `a+b`, `^kube-.*|^prod$`, "^[a-z&&[^b]]$", "x*", `[a-\d]`, `\pN`, `[[:foo:]]`}
	values := []string{"", "a", "b", "ab", "a.b", "axb", "[", "]", "&", "~", "a-1", "b-x", "gold", "gold-12", "1x2", "<a>", "prod", "my-prod-1", "kube-system", "A", "^", "-", "λ", "١", "a/b", "test", "b]"}
	lines := []string{}
	for _, source := range sources {
		pattern, err := regexp.Compile(source)
		for _, value := range values {
			said := "!"
			if err == nil {
				said = fmt.Sprint(pattern.MatchString(value))
			}
			lines = append(lines, source+"\t"+value+"\t"+said)
			if err != nil {
				break
			}
		}
	}
	return lines
}
