package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// kind is a licence, known by phrases that only its text has. Phrases are compared word by word, in lower case.
type kind struct {
	name    string
	all     []string // each stands in the text
	none    []string // none does
	allowed bool
}

const (
	mit = "permission is hereby granted free of charge to any person obtaining a copy of this software"
	bsd = "redistribution and use in source and binary forms with or without modification are permitted"
)

// kinds are the licences that the program can tell. What is not allowed stands here to be named; a text that none of
// these fits is refused as well.
var kinds = []kind{
	{"Apache-2.0", []string{"apache license version 2 0"}, nil, true},
	{"MIT", []string{mit, "the above copyright notice and this permission notice shall be included"}, nil, true},
	{"MIT-0", []string{mit}, []string{"shall be included"}, true},
	{"BSD-3-Clause", []string{bsd, "neither the name"}, nil, true},
	{"BSD-2-Clause", []string{bsd}, []string{"neither the name"}, true},
	{"ISC", []string{"permission to use copy modify and or distribute this software for any purpose"}, nil, true},
	{"MPL-2.0", []string{"mozilla public license version 2 0 1 definitions"}, nil, true},
	{"Zlib", []string{"this software is provided as is without any express or implied warranty",
		"altered source versions must be plainly marked as such"}, nil, true},
	{"CC0-1.0", []string{"cc0 1 0 universal"}, nil, true},
	{"Unlicense", []string{"this is free and unencumbered software released into the public domain"}, nil, true},
	{"GPL", []string{"gnu general public license version 2 june 1991"}, nil, false},
	{"GPL", []string{"gnu general public license version 3 29 june 2007"}, nil, false},
	{"GPL", []string{"redistribute it and or modify it under the terms of the gnu"}, nil, false},
	{"AGPL", []string{"gnu affero general public license version 3 19 november 2007"}, nil, false},
	{"LGPL", []string{"gnu lesser general public license version 2 1 february 1999"}, nil, false},
	{"LGPL", []string{"gnu lesser general public license version 3 29 june 2007"}, nil, false},
	{"BUSL", []string{"business source license"}, nil, false},
	{"SSPL", []string{"server side public license"}, nil, false},
	{"Elastic", []string{"elastic license"}, nil, false},
	{"Commons Clause", []string{"commons clause"}, nil, false},
	{"EPL", []string{"eclipse public license"}, nil, false},
	{"CC-BY-NC", []string{"attribution noncommercial"}, nil, false},
}

// errUnknown is returned for a text that is none of kinds.
var errUnknown = errors.New("its licence is not known here: look at it, and add it to kinds.go")

// kindsOf returns the licences that a text has: some files have several, one after the other. It is an error if there
// is none, or one that is not allowed.
func kindsOf(text string) (found []string, err error) {
	words := " " + strings.Join(strings.FieldsFunc(strings.ToLower(text), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	}), " ") + " "
	has := func(phrase string) bool { return strings.Contains(words, " "+phrase+" ") }
	for _, k := range kinds {
		if slices.ContainsFunc(k.all, func(p string) bool { return !has(p) }) || slices.ContainsFunc(k.none, has) {
			continue
		}
		if !k.allowed {
			return nil, fmt.Errorf("%s is not allowed", k.name)
		}
		found = append(found, k.name)
	}
	if len(found) == 0 {
		return nil, errUnknown
	}
	return found, nil
}
