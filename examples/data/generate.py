#!/usr/bin/env python3
"""Writes the small labelled data sets of this folder, or checks the ones that are there.

    python3 generate.py            write home_*.tsv, reviews_*.tsv and names_*.tsv beside this script
    python3 generate.py --check    verify the files: labels, duplicates, edit distances, held-out material
    python3 generate.py --stats    count sentences, words and labels of the files

The sentences come from a small grammar.  Labels are not guessed from the finished sentence: the grammar knows what it
is saying, so each label is a function of the meaning and there is no label noise.  The output depends on nothing but
this file: the random numbers are computed here, and no set or dictionary order is ever relied on for a choice.

How to read the grammar (section 2 onwards).  A template is a line of words in which

    {room}          picks an entry of the list or rule `room`; a value of a list is tagged B-room I-room ...
    {light:device}  picks from the list `light` but tags it as `device`
    (please|now|)   picks one of the alternatives, here perhaps nothing
    turn^           is a verb that is inflected as the sentence around it wants: turn, turning, turned
    *anything       (first character of an entry) is held out: it appears in the validation and test files only
"""

import os
import re
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
SEED = 20240607

# ---------------------------------------------------------------------------------------------------------------------
# 1  Tools: random numbers, templates, edit distance, files
# ---------------------------------------------------------------------------------------------------------------------


class Random:
    """splitmix64: Python's own generator may change its choice() between versions, this one cannot."""

    def __init__(self, seed):
        self.state = seed & 0xFFFFFFFFFFFFFFFF

    def bits(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return z ^ (z >> 31)

    def below(self, n):
        return self.bits() % n

    def chance(self, percent):
        return self.below(100) < percent

    def choice(self, items):
        return items[self.below(len(items))]

    def weighted(self, pairs):
        """An item of [(item, integer weight), ...]."""
        ticket = self.below(sum(weight for _, weight in pairs))
        for item, weight in pairs:
            ticket -= weight
            if ticket < 0:
                return item

    def shuffle(self, items):
        for i in range(len(items) - 1, 0, -1):
            j = self.below(i + 1)
            items[i], items[j] = items[j], items[i]


PIECE = re.compile(r"\{[A-Za-z_:]+\}|\([^()]*\)|[^\s{}()]+")

PARTICIPLES = {"wake": "woken", "write": "written"}     # where it is not the past form
IRREGULAR = {  # base: (gerund, past), where adding -ing and -ed would be wrong
    "put": ("putting", "put"), "shut": ("shutting", "shut"), "stop": ("stopping", "stopped"),
    "set": ("setting", "set"), "dim": ("dimming", "dimmed"), "make": ("making", "made"),
    "change": ("changing", "changed"), "close": ("closing", "closed"), "raise": ("raising", "raised"),
    "wake": ("waking", "woke"), "tell": ("telling", "told"), "write": ("writing", "wrote"),
    "cancel": ("cancelling", "cancelled"), "let": ("letting", "let"),
}


def inflect(verb, form):
    gerund, past = IRREGULAR.get(verb, (verb + "ing", verb + "ed"))
    return {"base": verb, "ing": gerund, "past": past, "done": PARTICIPLES.get(verb, past)}[form]


def tag_as(pieces, name):
    """The same words as one span."""
    return [(word, ("I-" if i else "B-") + name) for i, (word, _) in enumerate(pieces)]


def untagged(pieces):
    return [(word, "O") for word, _ in pieces]


class Grammar:
    """Expands templates into lists of (word, tag)."""

    def __init__(self, rng, lists, rules, held_out):
        self.rng, self.lists, self.rules, self.held_out = rng, lists, rules, held_out

    def pick(self, entries):
        """One entry; those marked * only where held-out material is allowed."""
        allowed = [e for e in entries if self.held_out or not e.startswith("*")]
        return self.rng.choice(allowed).lstrip("*")

    def expand(self, template, form="base", given=None):
        """given: names that stand for ready-made pieces, such as the request inside a frame."""
        out = []
        for piece in PIECE.findall(template):
            if piece[0] == "(":
                out += self.expand(self.rng.choice(piece[1:-1].split("|")), form, given)
            elif piece[0] == "{":
                out += self.expand_name(piece[1:-1], form, given or {})
            elif piece[-1] == "^":
                out.append((inflect(piece[:-1], form), "O"))
            else:
                out.append((piece, "O"))
        return out

    def expand_name(self, name, form, given):
        if name in given:
            return given[name]
        if name in self.rules:
            return self.expand(self.pick(self.rules[name]), form, given)
        name, _, tag = name.partition(":")
        return tag_as([(word, "O") for word in self.pick(self.lists[name]).split()], tag or name)


class NearIndex:
    """Sentences, answering whether a new one is within token edit distance 1 of any of them.

    Two token sequences are that close exactly if they agree after masking one position in both (a substitution), or
    after deleting one token from one of them.  So both variants of every sentence are kept in sets."""

    def __init__(self):
        self.whole, self.masked, self.shorter = set(), set(), set()

    def add(self, tokens):
        self.whole.add(tokens)
        for i in range(len(tokens)):
            self.masked.add(tokens[:i] + (None,) + tokens[i + 1:])
            self.shorter.add(tokens[:i] + tokens[i + 1:])

    def near(self, tokens):
        if tokens in self.whole or tokens in self.shorter:
            return True
        return any(tokens[:i] + (None,) + tokens[i + 1:] in self.masked or tokens[:i] + tokens[i + 1:] in self.whole
                   for i in range(len(tokens)))


def write_tsv(name, header, rows):
    with open(os.path.join(HERE, name), "w", encoding="utf-8", newline="\n") as file:
        for row in [header] + rows:
            file.write("\t".join(row) + "\n")
    print("%-20s %5d sentences" % (name, len(rows)))


def read_tsv(name):
    """(header, rows) of a file in this folder."""
    with open(os.path.join(HERE, name), encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    return lines[0], lines[1:]


def make_splits(rng, sizes, make_sentence):
    """Fills the splits in the order given.  make_sentence(held_out) returns (tokens, labels).

    A sentence that is within edit distance 1 of a sentence of another split is thrown away, so a test sentence is
    never a training sentence with one word changed.  Train is filled last: it gives way to the others."""
    seen, indexes, splits = set(), [], {}
    for split, size in sizes:
        index, rows = NearIndex(), []
        while len(rows) < size:
            tokens, labels = make_sentence(split != "train")
            if tokens in seen or any(other.near(tokens) for other in indexes):
                continue
            seen.add(tokens)
            index.add(tokens)
            rows.append([" ".join(tokens)] + labels)
        indexes.append(index)
        rng.shuffle(rows)
        splits[split] = rows
    return splits


# ---------------------------------------------------------------------------------------------------------------------
# 2  Home: the words
# ---------------------------------------------------------------------------------------------------------------------

HOME_LISTS = {
    "lamp": ["lamp", "light", "floor lamp", "desk lamp", "ceiling light", "night light", "reading lamp", "*corner lamp",
             "*night lamp"],
    "lights": ["lights", "fairy lights", "string lights", "spotlights", "*floor lights"],
    "appliance": ["heater", "fan", "oven", "coffee machine", "tv", "radio", "washing machine", "dishwasher", "kettle",
                  "air conditioner", "vacuum", "rice cooker", "ceiling fan", "towel heater", "*coffee heater",
                  "*floor heater", "*desk fan", "*air fan"],
    "warm": ["heater", "oven", "air conditioner", "boiler", "thermostat", "floor heater", "towel heater"],
    "loud": ["tv", "radio", "speaker", "music", "volume", "alarm", "portable speaker", "*desk radio"],
    "room": ["kitchen", "bedroom", "living room", "bathroom", "hall", "garage", "office", "nursery", "attic",
             "basement", "guest room", "dining room", "kids room", "garden", "laundry room", "*music room",
             "*reading room", "*guest office", "*guest bathroom"],
    "door": ["front door", "back door", "garage door", "garden gate", "side door", "cellar door", "gate",
             "balcony door", "*kitchen door", "*side gate", "*front gate"],
    "window": ["window", "skylight", "roof window", "side window", "*garden window"],
    "cover": ["blinds", "curtains", "shutters", "windows", "roof shutters", "drapes", "*side windows"],
    "color": ["red", "blue", "green", "warm white", "purple", "orange", "pink", "soft yellow", "cold white",
              "dark blue", "*soft green", "*dark red", "*warm yellow"],
    "percent": ["ten percent", "twenty percent", "half", "fifty percent", "seventy percent", "full",
                "the lowest setting", "maximum", "a quarter", "*thirty percent", "*the highest setting"],
    "degrees": ["eighteen degrees", "nineteen degrees", "twenty degrees", "twenty two degrees", "sixteen degrees",
                "one hundred degrees", "*twenty one degrees", "*fifty degrees"],
    "volume_level": ["three", "five", "seven", "ten", "half", "maximum", "twenty percent", "*four",
                     "*the lowest setting"],
    "genre": ["jazz", "rock", "piano music", "country", "classical music", "lullabies", "dance music", "blues",
              "old soul", "folk songs", "rain sounds", "techno", "hip hop", "film music", "ocean sounds",
              "*country blues", "*dance lullabies", "*piano blues"],
    "title": ["silver rain", "my last summer", "open road", "the long winter", "golden hour", "paper boats",
              "lights out", "blue monday morning", "dancing alone", "home again", "never too late", "close the door",
              "turn around", "*golden rain", "*the last road", "*silver boats", "*dancing home"],
    "artist": ["the paper foxes", "mira lane", "the night shift", "johnny vale", "ella stone", "the open doors", "nora",
               "the silver birds", "max river", "the quiet kids", "*the night foxes", "*ella lane", "*johnny river"],
    "person": ["anna", "tom", "grandma", "my sister", "uncle joe", "my wife", "doctor hayes", "my neighbor", "sam",
               "my boss", "leo", "the kids", "mister brown", "mom", "my brother", "aunt may", "*my aunt",
               "*grandma brown"],
    "item": ["milk", "eggs", "butter", "rice", "red onions", "cheese", "apples", "black pepper", "candles",
             "tomato soup", "brown bread", "olive oil", "two lemons", "batteries", "dog food", "light bulbs",
             "green tea", "a new kettle", "soap", "paper towels", "coffee beans", "orange juice", "*lemon soap",
             "*brown eggs", "*green paper", "*two batteries"],
    "list": ["shopping list", "grocery list", "to do list", "party list", "holiday list", "kitchen list",
             "*garden list", "*weekend list"],
    "time": ["seven", "six thirty", "noon", "midnight", "eight in the morning", "ten tonight", "half past nine", "five",
             "quarter to six", "*half past six", "*nine in the morning", "*seven tonight"],
    "duration": ["ten minutes", "five minutes", "half an hour", "two hours", "an hour", "ninety seconds",
                 "twenty minutes", "three hours", "*two minutes", "*five hours", "*ninety minutes"],
    "minutes": ["ten minute", "five minute", "half hour", "two hour", "one hour", "ninety second", "*twenty minute"],
    "clock": ["seven", "six thirty", "noon", "five", "half past nine", "quarter to six", "*half past six"],
    "date": ["tomorrow", "today", "on sunday", "this weekend", "tonight", "on monday morning", "next week",
             "*next sunday", "*tomorrow morning"],
    "place": ["london", "paris", "oslo", "new york", "the mountains", "berlin", "my home town", "san marco", "rome",
              "lisbon", "cape town", "chicago", "*new london", "*the town"],
    "chore": ["call grandma", "water the plants", "iron my shirt", "book a table", "charge my phone",
              "renew my passport", "bake a cake", "feed the cat", "take out the trash", "pay the rent", "walk the dog",
              "buy a birthday card", "take my pills", "check the mail", "pick up the kids", "*feed the dog",
              "*call the kids", "*water the garden", "*pay uncle joe"],
    "news": ["dinner is ready", "i will be late", "the train is late", "we need milk", "i am on my way home",
             "the kids are asleep", "the meeting starts at noon", "*the kids are late", "*the milk is on the way"],
    "friend": ["anna", "tom", "my sister", "leo", "my wife", "mom", "my brother", "sam"],
}

# Clauses.  Verbs such as "turn", "put" and "start" serve several intents, so that no single word gives one away.
HOME_RULES = {
    "one": ["{lamp:device}", "{appliance:device}"],        # singular, for sentences in which it is the subject
    "thing": ["the {one}", "the {one}", "the {lights:device}", "the {room} {one}", "the {one} in the {room}",
              "the {lights:device} in the {room}", "my {one}", "that {one}", "that {one} in the {room}"],
    "one_thing": ["the {one}", "the {room} {one}", "the {one} in the {room}", "my {one}"],
    "lighting": ["{lamp:device}", "{lamp:device}", "{lights:device}"],
    "any_lamp": ["the {lighting}", "the {room} {lighting}", "the {lighting} in the {room}", "my {lighting}"],
    "warmer": ["the {warm:device}", "the {room} {warm:device}", "the {warm:device} in the {room}"],
    "speaker": ["the {loud:device}", "the {room} {loud:device}", "the {loud:device} in the {room}"],
    "opening": ["the {door}", "the {door}", "the {cover:device}", "the {room} {cover:device}",
                "the {cover:device} in the {room}", "the {room} {window:device}"],
    "one_opening": ["the {door}", "the {door}", "the {room} {window:device}"],
    "entry": ["the {door}"],

    "turn_on": ["turn^ on {thing}", "turn^ {thing} on", "switch^ {thing} on", "switch^ on {thing}", "put^ {thing} on",
                "turn^ {thing} back on", "power^ up {thing}", "start^ {thing}", "*switch^ {thing} back on",
                "*put^ on {thing}"],
    "turn_off": ["turn^ off {thing}", "turn^ {thing} off", "switch^ {thing} off", "switch^ off {thing}",
                 "shut^ {thing} off", "turn^ {thing} back off", "power^ down {thing}", "stop^ {thing}",
                 "*switch^ {thing} back off", "*shut^ off {thing}"],
    "set_level": ["set^ {any_lamp} to {percent:level}", "dim^ {any_lamp} to {percent:level}",
                  "turn^ {any_lamp} down to {percent:level}", "turn^ {any_lamp} to {color}", "make^ {any_lamp} {color}",
                  "change^ {any_lamp} to {color}", "set^ {warmer} to {degrees:level}",
                  "turn^ {warmer} up to {degrees:level}", "put^ {warmer} on {degrees:level}",
                  "turn^ {speaker} down to {volume_level:level}", "turn^ up {speaker} to {volume_level:level}",
                  "set^ {speaker} to {volume_level:level}", "*change^ {warmer} to {degrees:level}",
                  "*turn^ down {any_lamp} to {percent:level}"],
    "play_media": ["play^ {title} by {artist}", "play^ {title}", "play^ some {genre}", "put^ on some {genre}",
                   "put^ some {genre} on", "play^ {genre} in the {room}", "start^ {title} by {artist}",
                   "put^ {title} on", "play^ something by {artist}", "turn^ on some {genre}",
                   "*play^ {artist} in the {room}", "*start^ some {genre} in the {room}"],
    "open": ["open^ {opening}", "open^ {opening}", "unlock^ {entry}", "open^ up {opening}",
             "*unlock^ and open^ {entry}"],
    "close": ["close^ {opening}", "shut^ {opening}", "lock^ {entry}", "lock^ up {entry}", "*close^ and lock^ {entry}"],
    "set_timer": ["set^ a timer for {duration}", "start^ a {minutes:duration} timer", "set^ an alarm for {time}",
                  "wake^ me at {time}", "start^ a timer for {duration}", "put^ on a {minutes:duration} timer",
                  "*set^ a {minutes:duration} timer", "*wake^ me {date} at {clock:time}"],
    "add_to_list": ["add^ {item} to the {list}", "put^ {item} on the {list}", "put^ {item} and {item} on the {list}",
                    "add^ {item} to my {list}", "write^ {item} on the {list}", "*add^ {item} and {item} to the {list}"],

    # Said about the house: a state is a fact, an event is something to wait for.
    "state": ["{one_thing} is on", "{one_thing} is off", "{one_opening} is open", "{one_opening} is closed",
              "{entry} is locked", "{entry} is unlocked", "{one_thing} is still on", "{one_opening} is still open",
              "{one_thing} is running"],
    "event": ["{one_thing} is off", "{one_thing} is on", "{one_opening} opens", "{one_opening} closes",
              "{entry} is locked", "it starts to rain", "the rain stops", "{friend} comes home", "the baby wakes up",
              "the cake is done", "{friend} opens {one_opening}", "{one_thing} stops", "the sun goes down",
              "*{friend} closes {one_opening}", "*{one_thing} starts"],
    "asked_state": ["is {one_thing} on", "is {one_thing} off", "is {one_opening} open", "is {one_opening} closed",
                    "is {entry} locked", "is {one_thing} still on", "is {one_opening} still open",
                    "is {one_thing} still running"],
    "someone": ["you", "anyone", "{friend}"],
}

ACTIONS = ["turn_on", "turn_off", "set_level", "play_media", "open", "close", "set_timer", "add_to_list"]

# Requests that talk about another action, so that its words are in the sentence but its intent is not:
# {do}, {doing}, {did} and {done} are any action in that form; a `task`, `message` or `event` is one span whatever it holds.
WRAPPERS = {
    "set_reminder": ["remind^ me to {task}", "remind^ me to {task} at {time}", "remind^ me {date} to {task}",
                     "remind^ me at {time} to {task}", "make^ sure i remember to {task}",
                     "tell^ me to {task} at {time}", "*remind^ me {date} at {clock:time} to {task}",
                     "tell^ me {date} to {task}"],
    "send_message": ["tell^ {person} to {order}", "ask^ {person} to {order}", "tell^ {person} {news:message}",
                     "tell^ {person} that {fact}", "let^ {person} know that {fact}", "ask^ {person} if {fact}",
                     "tell^ {person} when {occasion}", "remind^ {person} to {order}",
                     "let^ {person} know {news:message}"],
    "ask_status": ["{asked_state}", "{asked_state}", "did {someone} {do}", "have you {done}", "did {someone} {do}",
                   "tell^ me if {state}", "check^ if {state}", "can you see if {state}", "do you know if {state}"],
    "ask_weather": ["will it rain {date}", "will it rain in {place} {date}", "what is the weather like in {place}",
                    "how cold is it in {place}", "tell^ me if it will rain {date}", "is it cold outside",
                    "will it be warm {date}", "how is the weather {date}", "tell^ me the weather for {date}",
                    "is it still warm in {place}", "do i need a warm coat {date}",
                    "*how warm will it be {date} in {place}", "*tell^ me how cold it is in {place}"],
    "notify_when": ["tell^ me when {occasion}", "let^ me know when {occasion}", "tell^ me as soon as {occasion}",
                    "warn^ me when {occasion}", "let^ me know once {occasion}", "warn^ me as soon as {occasion}"],
    "cancel": ["cancel^ the reminder to {task}", "never mind {doing_task}", "forget about {doing_task}",
               "you do not have to {task} anymore", "do not {task} after all", "cancel^ the {minutes:duration} timer",
               "cancel^ the alarm for {time}", "stop^ the {minutes:duration} timer", "forget the reminder to {task}"],
    "chat": ["i already {did}", "{friend} {did} yesterday", "i would never {do}", "thanks for {doing}",
             "i like {doing} at night", "you {did} again", "{friend} told me to {do}", "i wanted to {do} but i forgot",
             "{state}", "{friend} is asleep", "who needs to {do} anyway", "*{friend} would never {do}",
             "{friend} likes {doing} at night"],
}
IMPERATIVE_WRAPPERS = ["set_reminder", "send_message", "notify_when"]   # those that can be negated like an action

INTENT_WEIGHTS = [("turn_on", 11), ("turn_off", 11), ("set_level", 9), ("play_media", 9), ("open", 8), ("close", 8),
                  ("set_timer", 6), ("add_to_list", 6), ("set_reminder", 7), ("send_message", 8), ("ask_status", 11),
                  ("ask_weather", 5), ("notify_when", 7), ("cancel", 7), ("chat", 11)]

# What precedes a plain request.  {r} is the request, {r_ing} the same as a gerund.
OPENERS = [("{r}", 10, 0), ("please {r}", 4, 10), ("{r} please", 4, 10), ("can you {r}", 4, 0),
           ("could you please {r}", 3, 10), ("i want you to {r}", 2, 0), ("would you mind {r_ing}", 3, 0),
           ("hey {r}", 3, 0), ("okay {r}", 2, 0), ("{friend} says {r}", 2, 0), ("{friend} wants you to {r}", 2, 0),
           ("just {r}", 2, 0), ("you can {r} now", 2, 0), ("how about {r_ing}", 2, 0)]
PLAIN_OPENERS = [("{r}", 6, 0), ("hey {r}", 2, 0), ("okay {r}", 1, 0), ("well {r}", 1, 0)]

# Two actions in one sentence.  {r} is requested; {b} ({b_ing}, {b_past}) is the other one: refused, corrected, already
# done or only a point in time.  Which is which is told by order and by small words that appear on both sides.
# (template, weight, mood it adds in hundredths, whether {r} comes last)
FRAMES = [
    ("{r} after you {b}", 5, 0, False), ("after you {b} {r}", 5, 0, True),
    ("{r} before you {b}", 5, 0, False), ("before you {b} {r}", 5, 0, True),
    ("{r} do not {b}", 6, 0, False), ("do not {b} {r}", 6, 0, True),
    ("{r} and do not {b}", 3, 0, False), ("do not {b} but {r}", 3, 0, True),
    ("{r} instead of {b_ing}", 4, 0, False), ("instead of {b_ing} {r}", 4, 0, True),
    ("i said {r} not {b}", 5, -30, False), ("i did not say {b} i said {r}", 5, -30, True),
    ("i said {r} i did not say {b}", 5, -30, False),
    ("i asked you to {r} not to {b}", 4, -30, False), ("i did not ask you to {b} i asked you to {r}", 4, -30, True),
    ("no need to {b} just {r}", 4, 0, True), ("just {r} no need to {b}", 4, 0, False),
    ("{friend} wants you to {b} but i want you to {r}", 4, 0, True),
    ("i want you to {r} but {friend} wants you to {b}", 4, 0, False),
    ("i already {b_past} now {r}", 4, 0, True), ("{r} i already {b_past}", 4, 0, False),
    ("thanks for {b_ing} now {r}", 3, 20, True), ("i will {b} you {r}", 4, 0, True),
    ("you {r} and i will {b}", 4, 0, False),
]
CONDITIONS = [("if {state} {r}", False), ("when {occasion} {r}", True), ("{r} when {occasion}", True),
              ("{r} if {state}", False), ("{state} so {r}", False), ("once {occasion} {r}", True),
              ("{r} as soon as {occasion}", True)]

# ---------------------------------------------------------------------------------------------------------------------
# 3  Home: mood and urgency
# ---------------------------------------------------------------------------------------------------------------------

FEELINGS = {"happy": 60, "glad": 50, "excited": 70, "relaxed": 40, "proud": 60, "thrilled": 70, "cheerful": 60,
            "sad": -60, "tired": -40, "angry": -70, "annoyed": -60, "upset": -70, "lonely": -60, "bored": -40,
            "stressed": -60, "worried": -50, "frustrated": -60}
QUALITIES = {"wonderful": 70, "lovely": 60, "nice": 40, "good": 50, "great": 60, "perfect": 70, "fun": 50, "pleasant": 40,
             "awful": -70, "terrible": -70, "bad": -50, "horrible": -70, "annoying": -60, "boring": -40, "stupid": -60,
             "ridiculous": -60}
DEGREES = [("", 100), ("", 100), ("so", 130), ("very", 130), ("really", 130), ("a bit", 50)]
NEGATIONS = [("not {x}", -60), ("not {x} at all", -100), ("no longer {x}", -60)]
SUBJECTS = [("i am", FEELINGS), ("i feel", FEELINGS), ("this is", QUALITIES), ("you are", QUALITIES),
            ("my day was", QUALITIES)]
FIXED_MOODS = [("i love this", 70), ("i hate this", -70), ("i do not love this", -40), ("i do not hate this", 40),
               ("ugh", -40), ("yay", 50), ("damn it", -60), ("thank you so much", 50), ("for the third time", -40),
               ("i am not in a good mood", -50), ("i am in a good mood", 50), ("i am in a bad mood", -50),
               ("nothing works today", -60), ("everything works today", 60), ("what a lovely day", 60),
               ("what an awful day", -70)]

HIGH_URGENCY = ["right now", "quickly", "immediately", "as fast as you can", "hurry", "this is urgent",
                "it is an emergency", "this can not wait", "do not wait", "there is no time", "not later but now", "i need it now"]
LOW_URGENCY = ["no rush", "take your time", "whenever you have time", "this is not urgent", "there is no hurry",
               "it is not an emergency", "this can wait", "there is time", "do not hurry", "not now but later",
               "i do not need it now", "some time later"]


def clip(value, low, high):
    return max(low, min(high, value))


def scaled(value, percent):
    """value * percent / 100 in whole hundredths, rounded away from zero at a half: integers, so the same everywhere."""
    size = (abs(value * percent) + 50) // 100
    return size if value * percent >= 0 else -size


def feeling(rng):
    """(phrase, mood) of one simple statement: an adjective, made stronger, weaker or negated."""
    subject, adjectives = rng.choice(SUBJECTS)
    adjective = rng.choice(list(adjectives))
    value = adjectives[adjective]
    if rng.chance(35):
        pattern, factor = rng.choice(NEGATIONS)
        phrase = pattern.replace("{x}", adjective)
    else:
        degree, factor = rng.choice(DEGREES)
        phrase = (degree + " " + adjective).strip()
    return subject + " " + phrase, clip(scaled(value, factor), -100, 100)


def mood_phrase(rng):
    """(phrase, mood): a feeling, a contrast of two (the main clause counts for more), or somebody else's (no weight)."""
    kind = rng.below(100)
    if kind < 30:
        return rng.choice(FIXED_MOODS)
    phrase, value = feeling(rng)
    if kind < 75:
        return phrase, value
    if kind < 85:
        friend = rng.choice(HOME_LISTS["friend"])
        return friend + " is " + rng.choice(["", "so ", "not ", "very "]) + rng.choice(list(FEELINGS)), 0
    other, other_value = feeling(rng)
    while value * other_value > 0:
        other, other_value = feeling(rng)
    if kind < 93:
        return phrase + " but " + other, scaled(value, 20) + scaled(other_value, 80)
    return "although " + phrase + " " + other, scaled(value, 20) + scaled(other_value, 80)


# ---------------------------------------------------------------------------------------------------------------------
# 4  Home: sentences
# ---------------------------------------------------------------------------------------------------------------------


class HomeSpeaker:
    """Makes one utterance with its labels."""

    def __init__(self, rng, held_out):
        self.rng = rng
        self.held_out = held_out
        self.grammar = Grammar(rng, HOME_LISTS, HOME_RULES, held_out)

    def action(self, intent, form="base"):
        return self.grammar.expand("{%s}" % intent, form)

    def any_action(self, form="base"):
        return self.action(self.rng.choice(ACTIONS), form)

    def nested(self):
        """What the names in WRAPPERS stand for; spans swallow the slots inside them."""
        chore = self.grammar.expand("{chore}")
        task = chore if self.rng.chance(35) else self.any_action()
        return {"task": tag_as(task, "task"), "doing_task": tag_as(self.any_action("ing"), "task"),
                "order": tag_as(chore if self.rng.chance(25) else self.any_action(), "message"),
                "fact": tag_as(self.grammar.expand("{state}"), "message"),
                "occasion": tag_as(self.grammar.expand("{event}"), "event"),
                "do": self.any_action(), "doing": self.any_action("ing"), "did": self.any_action("past"),
                "done": self.any_action("done"),
                "friend": untagged(self.grammar.expand("{friend}"))}

    def request(self, intent, form="base"):
        if intent in ACTIONS:
            return self.action(intent, form)
        template = self.grammar.pick(WRAPPERS[intent])
        pieces = self.grammar.expand(template, form, self.nested())
        return untagged(pieces) if intent == "chat" else pieces    # small talk asks for nothing

    def plain(self, intent):
        """(pieces, mood) of a sentence with one request."""
        polite = intent in ACTIONS or intent in IMPERATIVE_WRAPPERS
        openers = OPENERS if polite else PLAIN_OPENERS
        template, _, mood = self.rng.weighted([(opener, opener[1]) for opener in openers])
        form = "ing" if "{r_ing}" in template else "base"
        pieces = self.request(intent, form)
        if intent in ("turn_on", "turn_off", "open", "close") and self.rng.chance(20):
            pieces = pieces + self.grammar.expand("at {time}")
        friend = untagged(self.grammar.expand("{friend}"))
        return self.grammar.expand(template, given={"r": pieces, "r_ing": pieces, "friend": friend}), mood

    def other_action(self, intent, template):
        """An action for {b}: one that shares words with the request more often than chance would have it."""
        twins = {"turn_on": "turn_off", "turn_off": "turn_on", "open": "close", "close": "open",
                 "set_level": "turn_on", "play_media": "turn_on", "set_timer": "set_level", "add_to_list": "play_media"}
        refusal = any(word in template.split() for word in ("not", "instead", "thanks"))
        if refusal and self.rng.chance(25):     # "i already reminded me to ..." would be no English
            choices = [name for name in IMPERATIVE_WRAPPERS if name != intent]
            return self.rng.choice(choices)
        if intent in twins and self.rng.chance(35):
            return twins[intent]
        return self.rng.choice([name for name in ACTIONS if name != intent])

    def framed(self, intent):
        """(pieces, mood) of a sentence with two actions, or None if this mixture is held out of training."""
        last_only = intent not in ACTIONS       # "remind me to A after you B" would be ambiguous
        frames = [(frame, frame[1]) for frame in FRAMES if frame[3] or not last_only]
        frame = self.rng.weighted(frames)
        other = self.other_action(intent, frame[0])
        if frame_is_held_out(frame, intent, other) and not self.held_out:
            return None
        template, _, mood, _ = frame
        form = "past" if "{b_past}" in template else "ing" if "{b_ing}" in template else "base"
        pieces = untagged(self.request(other, form))
        given = {"r": self.request(intent), "b": pieces, "b_ing": pieces, "b_past": pieces,
                 "friend": untagged(self.grammar.expand("{friend}"))}
        return self.grammar.expand(template, given=given), mood

    def conditional(self, intent):
        """(pieces, mood) of an action bound to an event, which is tagged, or to a state, which only explains."""
        template, is_event = self.rng.choice(CONDITIONS)
        clause = self.grammar.expand("{event}" if is_event else "{state}")
        given = {"r": self.request(intent), "state": untagged(clause), "occasion": tag_as(clause, "event")}
        return self.grammar.expand(template, given=given), 0

    def body(self, intent):
        kind = self.rng.below(100)
        if intent in ACTIONS:
            if kind < 28:
                return self.framed(intent)
            if kind < 38:
                return self.conditional(intent)
        elif intent in IMPERATIVE_WRAPPERS and kind < 22:
            return self.framed(intent)
        return self.plain(intent)

    def sentence(self):
        """(tokens, [intent, slots, mood, urgency])."""
        body = None
        while body is None:
            intent = self.rng.weighted(INTENT_WEIGHTS)
            body = self.body(intent)
        pieces, mood = body
        room_left = 14 - len(pieces)            # nobody speaks forever: long requests carry fewer asides
        urgency = "normal"
        if self.rng.chance(40 if room_left > 5 else 20):
            urgency = self.rng.choice(["high", "low"])
            phrase = self.rng.choice(HIGH_URGENCY if urgency == "high" else LOW_URGENCY)
            pieces = self.attach(pieces, phrase)
        if self.rng.chance(55 if room_left > 5 else 20):
            phrase, value = mood_phrase(self.rng)
            mood += value
            pieces = self.attach(pieces, phrase)
        tokens = tuple(word for word, _ in pieces)
        tags = " ".join(tag for _, tag in pieces)
        return tokens, [intent, tags, "%.2f" % (clip(mood, -100, 100) / 100), urgency]

    def attach(self, pieces, phrase):
        extra = [(word, "O") for word in phrase.split()]
        return extra + pieces if self.rng.chance(50) else pieces + extra


def frame_is_held_out(frame, intent, other):
    """One in eight mixtures of frame, request and other action never occurs in training.  Summed, not hashed by
    Python, whose hash of a string differs from run to run."""
    text = frame[0] + intent + "/" + other
    return sum((i + 1) * ord(c) for i, c in enumerate(text)) % 8 == 0


HOME_HEADER = ["text", "intent:class", "slots:tags", "mood:real", "urgency:class"]
MISSING = "_"


def hide_labels(rng, row):
    """Leaves out some labels of a training row, as real collections do.  Tags may miss as a whole or one by one."""
    text, intent, tags, mood, urgency = row
    if rng.chance(5):
        intent = MISSING
    if rng.chance(10):
        tags = MISSING
    elif rng.chance(5):
        cells = tags.split()
        for _ in range(1 + len(cells) // 6):
            cells[rng.below(len(cells))] = MISSING
        tags = " ".join(cells)
    if rng.chance(20):
        mood = MISSING
    if rng.chance(20):
        urgency = MISSING
    return [text, intent, tags, mood, urgency]


def write_home():
    rng = Random(SEED)
    speakers = {held_out: HomeSpeaker(rng, held_out) for held_out in (False, True)}
    splits = make_splits(rng, [("test", 500), ("valid", 300), ("train", 2400)],
                         lambda held_out: speakers[held_out].sentence())
    splits["train"] = [hide_labels(rng, row) for row in splits["train"]]
    for split in ("train", "valid", "test"):
        write_tsv("home_%s.tsv" % split, HOME_HEADER, splits[split])


# ---------------------------------------------------------------------------------------------------------------------
# 5  Reviews: sentence sentiment, a data set of its own
# ---------------------------------------------------------------------------------------------------------------------

PRAISE = ["great", "lovely", "excellent", "charming", "clever", "beautiful", "funny", "brilliant", "moving", "fresh",
          "*fresh and funny", "*clever and moving"]
BLAME = ["awful", "dull", "boring", "clumsy", "terrible", "lazy", "noisy", "predictable", "painful", "flat",
         "*dull and noisy", "*lazy and flat"]
ASPECTS = ["story", "acting", "music", "ending", "game", "film", "book", "first half", "main character", "dialogue",
           "camera work","last level", "graphics engine", "plot", "*last half", "*main story", "*first level"]
REVIEW_LISTS = {
    "aspect": ASPECTS, "good": PRAISE, "bad": BLAME,
    "degree": ["really", "very", "so", "truly", "rather"],
    "number": ["two", "three", "ten", "forty", "ninety"],
    "year": ["spring", "summer", "autumn", "winter"],
    "maker": ["a small team", "two brothers", "a young director", "a studio in oslo", "the writers of the first one",
              "*a small studio", "*two young writers"],
    "hope": ["i expected", "everybody says", "the poster promises", "my friends told me", "i had hoped"],
}
# {up} and {down} are whole clauses; the pattern says what the sentence as a whole amounts to.
REVIEW_RULES = {
    "up": ["the {aspect} is {good}", "the {aspect} is {degree} {good}", "i loved the {aspect}",
           "the {aspect} is never {bad}", "the {aspect} is not {bad} at all", "the {aspect} is anything but {bad}",
           "i could not stop watching", "there is nothing {bad} about the {aspect}", "i would not change the {aspect}"],
    "down": ["the {aspect} is {bad}", "the {aspect} is {degree} {bad}", "i hated the {aspect}",
             "the {aspect} is never {good}", "the {aspect} is not {good} at all", "the {aspect} is anything but {good}",
             "i could not watch it", "there is nothing {good} about the {aspect}", "i would change the {aspect}"],
    "fact": ["the {aspect} was made by {maker}", "the {aspect} takes {number} minutes", "it came out last {year}",
             "the {aspect} has {number} parts", "i saw it in {year}", "it is about {maker}",
             "*the {aspect} has {number} minutes"],
    "positive": ["{up}", "{up} and {up}", "{down} but {up}", "although {down} {up}", "{up} even though {down}",
                 "{fact} and {up}", "{hope} that {down} but {up}", "{up} and {fact}"],
    "negative": ["{down}", "{down} and {down}", "{up} but {down}", "although {up} {down}", "{down} even though {up}",
                 "{fact} and {down}", "{hope} that {up} but {down}", "{down} and {fact}"],
    "neutral": ["{fact}", "{fact} and {fact}", "the {aspect} is neither {good} nor {bad}", "the {aspect} is okay",
                "{hope} that {up}", "{hope} that {down}", "some say {up} and some say {down}",
                "{fact} and the {aspect} is okay"],
}


def write_reviews():
    rng = Random(SEED + 1)

    def make(held_out):
        sentiment = rng.choice(["positive", "negative", "neutral"])
        pieces = Grammar(rng, REVIEW_LISTS, REVIEW_RULES, held_out).expand("{%s}" % sentiment)
        return tuple(word for word, _ in pieces), [sentiment]

    splits = make_splits(rng, [("valid", 150), ("train", 800)], make)
    for split in ("train", "valid"):
        write_tsv("reviews_%s.tsv" % split, ["text", "sentiment:class"], splits[split])


# ---------------------------------------------------------------------------------------------------------------------
# 6  Names: persons, organisations and places, another data set of its own
# ---------------------------------------------------------------------------------------------------------------------

# Several words are names of more than one kind ("jordan", "lane", "marlow"): only the sentence tells which.
GIVEN = ["jordan", "clara", "victor", "ines", "paul", "florence", "omar", "lena", "austin", "ruth", "mika", "carla"]
FAMILY = ["marlow", "lane", "weber", "banks", "ford", "rivera", "stone", "okafor", "hill", "novak", "field", "moreau"]
SINGLE_PLACES = ["jordan", "florence", "austin", "marlow", "oslo", "lima", "vienna", "kenya", "peru", "lisbon",
                 "stone", "ford"]
PLACE_HEADS = ["lake", "port", "mount", "north", "saint"]
FIRM_TAILS = ["bank", "motors", "press", "foods", "airlines", "college", "rovers", "institute"]


def name_lists():
    """All combinations; every fifth is held out of training, though its words occur there in other names."""
    def combine(pattern, firsts, seconds):
        names = [pattern % (first, second) for first in firsts for second in seconds]
        return [("*" if i % 5 == 2 else "") + name for i, name in enumerate(names)]

    persons = combine("%s %s", GIVEN, FAMILY) + GIVEN + FAMILY
    places = combine("%s %s", PLACE_HEADS, ["clara", "hill", "lane", "ruth", "field", "weber"]) + SINGLE_PLACES * 4
    firms = (combine("%s %s", FAMILY + ["oslo", "lima", "austin", "florence"], FIRM_TAILS)
             + combine("%s and %s", FAMILY[:8], ["sons", "partners", "lane", "hill"])
             + (FAMILY[:5] + ["lima", "florence"]) * 4)
    return {"PER": persons, "ORG": firms, "LOC": places,
            "day": ["monday", "tuesday", "friday", "sunday"],
            "job": ["doctor", "teacher", "singer", "engineer", "mayor", "lawyer", "driver"]}


NAME_RULES = {"sentence": [
    "{PER} lives in {LOC}", "{PER} works for {ORG}", "{PER} works in {LOC}", "{ORG} opened an office in {LOC}",
    "{ORG} hired {PER} on {day}", "{PER} flew from {LOC} to {LOC}", "shares of {ORG} fell on {day}",
    "{PER} met {PER} in {LOC}",
    "{PER} of {ORG} spoke in {LOC}", "{ORG} bought {ORG} on {day}", "the {job} {PER} left {LOC} on {day}",
    "the {job} {PER} left {ORG} on {day}", "it rained in {LOC} on {day}", "{PER} said that {ORG} will leave {LOC}",
    "{ORG} said that {PER} will come to {LOC}", "in {LOC} {PER} married {PER}", "a spokesman for {ORG} praised {PER}",
    "the mayor of {LOC} sued {ORG}", "{ORG} beat {ORG} in {LOC}", "my friend {PER} moved to {LOC} with {PER}",
    "the road from {LOC} to {LOC} is closed", "{PER} a {job} from {LOC} joined {ORG}", "the staff of {ORG} went on strike",
    "nobody was hurt on {day}", "the {job} bought a stone house on the hill", "the {job} crossed the field near the lake",
    "we walked down the lane to the port", "the banks were closed on {day}", "{PER} walked down the lane with a {job}",
    "*on {day} {PER} left {ORG} and went to {LOC}", "*the {job} from {LOC} met {PER} of {ORG}",
    "*{ORG} moved from {LOC} to {LOC}",
], }


def write_names():
    rng = Random(SEED + 2)
    lists = name_lists()

    def make(held_out):
        grammar = Grammar(rng, lists, NAME_RULES, held_out)
        pieces = grammar.expand("{sentence}")
        if rng.chance(30):
            pieces += grammar.expand("(and|while) {sentence}")
        # Days and jobs are lists of the grammar but not entities of the task.
        tags = [tag if tag[2:] in ("PER", "ORG", "LOC") else "O" for _, tag in pieces]
        return tuple(word for word, _ in pieces), [" ".join(tags)]

    splits = make_splits(rng, [("valid", 150), ("train", 800)], make)
    for split in ("train", "valid"):
        write_tsv("names_%s.tsv" % split, ["text", "entities:tags"], splits[split])


# ---------------------------------------------------------------------------------------------------------------------
# 7  Checks from the files alone
# ---------------------------------------------------------------------------------------------------------------------

DATA_SETS = {"home": ["train", "valid", "test"], "reviews": ["train", "valid"], "names": ["train", "valid"]}


def bad_cells(header, row, may_miss):
    """What is wrong with a row, or nothing."""
    if len(row) != len(header):
        return "%d cells, expected %d" % (len(row), len(header))
    for column, cell in zip(header[1:], row[1:]):
        kind = column.split(":")[1]
        if not may_miss and MISSING in cell.split():
            return "missing label in " + column
        if cell == MISSING:
            continue
        if kind == "real" and not -1 <= float(cell) <= 1:
            return column + " out of range: " + cell
        if kind == "tags" and len(cell.split()) != len(row[0].split()):
            return "tags and tokens differ in number"
        if kind == "tags" and not tags_follow_bio(cell.split()):
            return "an I- tag does not continue a span"
    return ""


def tags_follow_bio(tags):
    for before, tag in zip(["O"] + tags, tags):
        if tag.startswith("I-") and before != MISSING and before[2:] != tag[2:]:
            return False
    return True


def check_set(name, splits):
    """Number of faults found in one data set, each printed."""
    faults, earlier = 0, []
    for split in splits:
        file = "%s_%s.tsv" % (name, split)
        header, rows = read_tsv(file)
        index, seen = NearIndex(), set()
        for number, row in enumerate(rows, 2):
            tokens = tuple(row[0].split(" "))
            fault = bad_cells(header, row, may_miss=split == "train")
            if tokens in seen:
                fault = "the same sentence twice"
            for other_split, other in earlier:
                if other.near(tokens):
                    fault = "within edit distance 1 of a sentence in " + other_split
            if fault:
                faults += 1
                print("%s:%d: %s" % (file, number, fault))
            seen.add(tokens)
            index.add(tokens)
        earlier.append((split, index))
        print("%-20s %5d sentences checked" % (file, len(rows)))
    return faults


def check():
    faults = sum(check_set(name, splits) for name, splits in DATA_SETS.items())
    texts = {name: {row[0] for split in splits for row in read_tsv("%s_%s.tsv" % (name, split))[1]}
             for name, splits in DATA_SETS.items()}
    shared = len(texts["reviews"] & texts["names"])
    if shared:
        print("reviews and names share %d sentences" % shared)
    print("%d faults" % (faults + shared))
    return 1 if faults + shared else 0


def stats():
    for name, splits in DATA_SETS.items():
        known = set()
        for split in splits:
            header, rows = read_tsv("%s_%s.tsv" % (name, split))
            words = [word for row in rows for word in row[0].split()]
            if split == "train":
                known = set(words)
            print("\n%s_%s: %d sentences, %.1f words each, %d different, %.2f %% of them not in train" % (
                name, split, len(rows), len(words) / len(rows), len(set(words)),
                100 * sum(word not in known for word in words) / len(words)))
            for i, column in enumerate(header[1:], 1):
                print("  %-16s %s" % (column, column_stats(column, [row[i] for row in rows])))


def column_stats(column, cells):
    missing = sum(cell == MISSING for cell in cells)
    if column.endswith(":real"):
        values = [float(cell) for cell in cells if cell != MISSING]
        mean = sum(values) / len(values)
        spread = (sum((value - mean) ** 2 for value in values) / len(values)) ** 0.5
        return "mean %.2f, deviation %.2f; %d missing" % (mean, spread, missing)
    if column.endswith(":tags"):
        cells = [tag[2:] for cell in cells for tag in cell.split() if tag.startswith("B-")]
    counts = {}
    for cell in cells:
        counts[cell] = counts.get(cell, 0) + (cell != MISSING)
    listed = sorted((-count, label) for label, count in counts.items() if label != MISSING)
    return "; ".join("%s %d" % (label, -count) for count, label in listed) + "; %d missing" % missing


def main():
    argument = sys.argv[1:]
    if argument == ["--check"]:
        return check()
    if argument == ["--stats"]:
        return stats()
    if argument:
        sys.exit(__doc__)
    write_home()
    write_reviews()
    write_names()
    return 0


if __name__ == "__main__":
    sys.exit(main())
