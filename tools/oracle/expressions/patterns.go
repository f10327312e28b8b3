package main

import (
	"math/rand"
	"regexp"
	"strings"
)

type patternRow struct {
	Pattern string `json:"pattern"`
	Refused bool   `json:"refused,omitempty"`
	// Values that have a match anywhere, and those that have none.
	Matches []string `json:"matches,omitempty"`
	Others  []string `json:"others,omitempty"`
	Differs string   `json:"differs,omitempty"`
}

var patternValues = []string{"", "a", "b", "ab", "a.b", "axb", "[", "]", "&", "~", "a-1", "b-x", "gold", "GOLD", "gold-12", "1x2", "<a>", "prod", "my-prod-1",
	"kube-system", "A", "^", "-", "λ", "Σ", "ς", "١", "a/b", "test", "b]", "a\nb", "\n", "a\n", "é", "aéb", "K", "k", "ſ", "s", "{", "a{", "a{1", "a{,2}", "aa", "aaa", " ", "\t", "\v", "_", "a_b", "E", "\\", "Q", "0", "07", "\x07", "日本", "$", "x", "harbor.example.com/app:v1", "registry.io/library/nginx@sha256:abc"}

var patternSources = []string{"", "a", "^a$", "^(a|b)-.*$", `^\Qa.b\E$`, `\Q[`, `\Q`, `a\Q.\E+b`, `\Qab\E+`, `\Q\E*`, `a\Q\E*`, `\E`, `\Qa\Qb\E`, "^[[a]$", "^[]a]$", "^[^]a]$", "^[a&&b]+$", "^[a~~b]+$", "[a--b]", "[--a]", "[a-]", "[-a]", "[a-c-e]", "[z-a]", "[^a]", "[^]", "[]", "[", "[a", "[a-", "[^a-", "[[:alpha:]", "[[:alpha:]]", "[[:^alpha:]]", "[^[:alpha:]]", "[[:alpha]]", "[[alpha:]]", "[:alpha:]", "[[:foo:]]", "[[:digit:]x]+", "^[[:digit:]x]+$", "[[:word:][:space:]]", "[[:punct:]]", "[[:ascii:]]", "[[:cntrl:]]", "[[:graph:]]", "[[:xdigit:]]", "[[:blank:]]", "[[:print:]]",
	`^\<a\>$`, "(?i)^GOLD$", "(?i)k", "(?i)s", "(?i)σ", "(?i)[a-z]", "(?i)[^a]", "(?i)[^k]", `(?i)\w`, `(?i)\W`, `(?i)[[:upper:]]`, `(?i)\pLu`, `(?i)\p{Lu}`, `(?i)\P{Lu}`, "(?-i)A", "(?i-i)A", "(?i-)A", "(?i:a)b", "(?i)a(?-i)b", "((?i)a)b", "(?s).", "(?s)a.b", "a.b", "(?m)^b$", "^b$", "(?m)a$", "a$", "a\\z", `\Ab`, `(?m)\Ab`, "(?U)a+", "(?U)a+?", "(?)", "(?)a", "(?-)", "(?i", "(?i:", "(?x) a", "(?z)", "(?ims-U:a)", "(?--i)a", "(?P<n>a)", "(?<n>a)", "(?P<n>a)(?P<n>b)", "(?P<1>a)", "(?P<n-1>a)", "(?P<>a)", "(?P<n", "(?P=n)", "(?'n'a)",
	"(", ")", "a)", "(a", "()", "(|a)b", "|", "a|", "|a", "a||b", "(?:a|b)+?c", "^a|b$", "*", "+", "?", "a**", "a*+", "a+?", "a*?", "a??", "a???", "a++", "a{2}{3}", "a{2}*", "a{2}?", "(a*)*", "(a+)+$", "^*", "$*", "^+a", `\b+`, "(?i)*", "a(?i)*", "(*)", "|*", "(|*)",
	"a{2,1}", "a{1001}", "a{1000}", "a{0}", "a{0,0}", "a{,2}", "a{", "a{1", "a{1,", "a{1,2", "a{01}", "a{1,02}", "a{ 1}", "{", "{1}", "a{-1}", "a{99999999999}", "(a{100}){100}", "(a{10}){100}", "(a{10}){101}", "((a{2}){2}){251}", "((a{2}){2}){250}", "(a{0}){1000}{1}", "(a{1000}){0}", "(a{1000})*", "(a{1000}b{1000}){1}", "(a{500,}){2}", "(a{500,}){3}", "x{2}", "a{2,}", "a{1,2}b",
	`\d+`, `\D`, `\s`, `\S`, `\w+-\w+`, `\W`, `^\S+$`, `[\d]`, `[\D]`, `[^\d]`, `[\w-]`, `[\w-z]`, `[a-\d]`, `[\s\S]`, `\bprod\b`, `\B`, `a\B`, `\Bb`, `^\B`, `\B$`, `é\B`, `\b`, `[\b]`, `\A\z`, `\Aa`, `\Z`, `\C`, `\G`, `\h`, `\R`, `\X`, `\K`,
	`\pL+`, `\pN`, `\pZ`, `\PL`, `\p{Greek}`, `\p{greek}`, `\P{Greek}`, `\p{^Greek}`, `\P{^Greek}`, `\p{Lu}`, `\p{Letter}`, `\p{Han}`, `\p{Any}`, `\p{ASCII}`, `\p{Assigned}`, `\p{LC}`, `\p{Cn}`, `\p{Cs}`, `\p{Nope}`, `\p{Script=Greek}`, `\p{Alphabetic}`, `\p{Old_Italic}`, `\p{Latin}`, `\p`, `\p{`, `\p{}`, `\pX`, `[\pL\d]`, `[^\pL]`, `[\p{Greek}a]`, `\p{Lowercase_Letter}`, `\p{lowercase letter}`, `\p{digit}`, `\p{punct}`,
	`\x41`, `\x{41}`, `\x{0041}`, `\x{110000}`, `\x{}`, `\x4`, `\x`, `\xzz`, `\x{D800}`, `\101`, `\07`, `\0`, `\1`, `\8`, `\18`, `\11`, `[\1]`, `[\07]`, `[\x41-\x43]`, `\a`, `\f`, `\t`, `\n`, `\r`, `\v`, `\e`, `\.`, `\-`, `\_`, `\/`, `a\/b`, `\&`, `\~`, `\ `, `\"`, `\é`, `\`, `a\`, `[\`, `[\]]`, `[\^]`, "[a^]", `[\w[]`, `[[\]]`, `[^[:space:]]+`,
	`^\w[\w.-]*\w$`, "^.{1,63}$", `^(dev|test|prod)$`, `^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`, `^gold-[0-9]{2}$`, "^[a-]$", "^[-a]$", `^kube-.*|^prod$`, "^[a-z&&[^b]]$", "x*", `^harbor\.example\.com/.*$`, `(harbor|registry)\.`, `@sha256:[a-f0-9]+$`, `^(?:[^/]+/)+[^:]+(?::[^@]+)?$`, "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)", "(?#c)", "日本", "[日本]", "^[^日]$", ".", "^.$", "^..$"}

func patterns() []patternRow {
	sources := append([]string{}, patternSources...)
	r := rand.New(rand.NewSource(3))
	parts := []string{"a", "b", "k", ".", "^", "$", "*", "+", "?", "|", "(", ")", "(?:", "(?i)", "(?i:", "(?s)", "(?m)", "(?U)", "[a-k]", "[^a]", "[", "]", "-", "{2}", "{1,2}", "{", "}", `\b`, `\B`, `\d`, `\w`, `\W`, `\s`, `\pL`, `\Q`, `\E`, `\A`, `\z`, "é", "x", "&", ",", "1", "]", "[[:alpha:]]", `\x41`, `\.`}
	for len(sources) < 900 {
		var source strings.Builder
		for range 1 + r.Intn(7) {
			source.WriteString(parts[r.Intn(len(parts))])
		}
		sources = append(sources, source.String())
	}
	rows := []patternRow{}
	for _, source := range sources {
		row := patternRow{Pattern: source}
		pattern, err := regexp.Compile(source)
		row.Refused = err != nil
		if err == nil {
			for _, value := range patternValues {
				if pattern.MatchString(value) {
					row.Matches = append(row.Matches, value)
				} else {
					row.Others = append(row.Others, value)
				}
			}
		}
		rows = append(rows, row)
	}
	return rows
}
