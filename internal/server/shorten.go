package server

import (
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"
)

// What a problem tells is bounded, since errors quote what clients send: a status of gRPC travels in headers, of which
// clients take 8 KiB and some end the call as an internal error beyond.
const (
	maxTold       = 900 // bytes of a problem's detail, or of one of its faults
	maxWord       = 128 // bytes of a quoted value, or of anything else without a blank
	keptOfWord    = 64  // what is left of the beginning of one that is longer
	maxFaults     = 32
	maxStatusSize = 3 << 10 // bytes of a gRPC status with its details
)

var longWords = regexp.MustCompile(fmt.Sprintf(`"(?:[^"\\]|\\.){%d,}"|\S{%d,}`, maxWord, maxWord))

// told returns a text fit for clients: values in it that are long are cut, and so is the middle of a text that is long
// nevertheless, for what is wrong stands at its beginning or its end. What is no UTF-8 in it is replaced: no message could
// carry it.
func told(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	if len(text) <= maxWord {
		return text
	}
	text = longWords.ReplaceAllStringFunc(text, func(word string) string {
		quote := ""
		if strings.HasSuffix(word, `"`) {
			quote = `"`
		}
		return fmt.Sprintf("%s…%s (%d bytes)", headOf(word, keptOfWord), quote, len(word)-2*len(quote))
	})
	if len(text) <= maxTold {
		return text
	}
	return headOf(text, 2*maxTold/3) + " … " + tailOf(text, maxTold/4)
}

// headOf and tailOf return at most n bytes of a text's beginning and end, no rune cut in two.
func headOf(text string, n int) string {
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}

func tailOf(text string, n int) string {
	from := len(text) - n
	for from < len(text) && !utf8.RuneStart(text[from]) {
		from++
	}
	return text[from:]
}

// toldFaults is told for each of a request's faults, of which the last one counts those that are too many.
func toldFaults(faults []string) []string {
	if n := len(faults); n > maxFaults {
		faults = append(faults[:maxFaults:maxFaults], fmt.Sprintf("and %d more", n-maxFaults))
	}
	for i, f := range faults {
		faults[i] = told(f)
	}
	return faults
}
