package main

import (
	"fmt"
	"math/rand"

	"k8s.io/apimachinery/pkg/api/resource"
)

type quantityRow struct {
	Text string `json:"text"`
	// Nothing if the text is refused.
	Canonical string `json:"canonical,omitempty"`
	// The other operand: the canonical form of the accepted text before.
	Other      string `json:"other,omitempty"`
	Sum        string `json:"sum,omitempty"`
	Difference string `json:"difference,omitempty"`
	Order      int    `json:"order,omitempty"`
	Differs    string `json:"differs,omitempty"`
}

var quantityTexts = []string{"", "-", "+", ".", "-.", "0", "-0", "0.0", "00", "007", "1.", ".5", "-.5", "1e", "1e+", "1e1.5", "1E", "1E2", "1e2", "12e2", "1e-2",
	"9223372036854775807", "9223372036854775808", "-9223372036854775808", "8Ei", "7Ei", "10E", "0.1n", "-0.1n", "1n", "1u", "1m", "999m", "1000m", "1001m",
	"0.0001Ki", "1.5Ki", "1023", "1024", "1023Ki", "1024Ki", "1025Ki", "0.5Ki", "0.25Ki", "0.9999999999Ki", "1 ", " 1", "1Gi ", "0x1", "1_000", "1,5", "1K", "1ki", "1KI",
	"1kb", "1B", "Ki", "m", "1mm", "1.1.1", "--1", "+-1", "1-", "NaN", "inf", "١", "1️", "100m", "0.1", "0.10", "1.10Gi", "1500m", "1.5", "1.50", "2.5e3", "1e3", "1000", "1e9", "1e18", "1e19",
	"100e21", "123456789.123456789", "0.123456789", "0.1234567891", "3.14159265358979", "512Mi", "1Ti", "1Pi", "1.5Ti", "16Gi", "64Gi", "-1Gi", "-512Mi", "-100m", "5G", "5Gi", "4.5G"}

func quantities() []quantityRow {
	r := rand.New(rand.NewSource(7))
	suffixes := []string{"", "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "e3", "E-3", "e+2", "e0", "e-9"}
	number := func() string {
		sign := []string{"", "", "-", "+"}[r.Intn(4)]
		switch r.Intn(5) {
		case 0:
			return sign + fmt.Sprintf("%d.%0*d", r.Intn(1000), 1+r.Intn(9), r.Intn(1000))
		case 1:
			return sign + fmt.Sprint(1<<r.Intn(40))
		case 2:
			return sign + fmt.Sprint(r.Int63n(1_000_000_000_000_000_000))
		default:
			return sign + fmt.Sprint(r.Intn(100_000))
		}
	}
	texts := append([]string{}, quantityTexts...)
	for range 300 {
		texts = append(texts, number()+suffixes[r.Intn(len(suffixes))])
	}
	rows := []quantityRow{}
	other := resource.MustParse("0")
	for _, text := range texts {
		row := quantityRow{Text: text}
		quantity, err := resource.ParseQuantity(text)
		switch {
		case err != nil:
		case !isNumber(text):
			row.Canonical = canonical(quantity)
			row.Differs = "Kubernetes takes a text without a digit for 0; no schema lets it through"
		case isHuge(quantity):
			// Kubernetes' own text of one may stand for another: 19000E is written as 19.
			continue
		default:
			sum, difference := quantity.DeepCopy(), quantity.DeepCopy()
			sum.Add(other)
			difference.Sub(other)
			row.Canonical, row.Other = canonical(quantity), canonical(other)
			row.Sum, row.Difference = canonical(sum), canonical(difference)
			row.Order = quantity.Cmp(other)
			if !isHuge(sum) && !isHuge(difference) {
				other = quantity
			} else {
				row.Other, row.Sum, row.Difference, row.Order = "", "", "", 0
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func isNumber(text string) bool {
	for _, c := range text {
		if '0' <= c && c <= '9' {
			return true
		}
	}
	return false
}

func isHuge(quantity resource.Quantity) bool {
	return quantity.Cmp(resource.MustParse("999E")) > 0 || quantity.Cmp(resource.MustParse("-999E")) < 0
}

// Not String(), which repeats what was parsed if that is near enough.
func canonical(quantity resource.Quantity) string {
	number, suffix := quantity.CanonicalizeBytes(nil)
	return string(number) + string(suffix)
}
