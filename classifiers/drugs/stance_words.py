"""The words by which a response permits, advises, reassures or warns, and a query asks.

All of them run on RE2, in linear time, on lower-case text.
"""

from __future__ import annotations

from typing import Final

from classifiers.scanning import Scan

CARES: Final = Scan(
    r"\b(?:(?:check with|ask|talk to|speak (?:to|with)|call|ring|contact|tell|see) (?:\w+ ){0,3}(?:doctor|prescriber|"
    r"pharmacist|gp|cardiologist|neurologist|psychiatrist|clinic|team|midwife|ob|surgeon|specialist|dentist|provider)|wait|"
    r"immediately|right away|stop)\b"
)
ADVERBS: Final = (
    r"(?:(?:perfectly|completely|totally|absolutely|entirely|quite|very|just|generally|usually|also|still|both|all|really|"
    r"definitely|actually|always|only|easily|safely|simply|certainly) ){0,3}"
)
FINE: Final = (
    r"(?:fine|safe|ok|okay|alright|all right|harmless|compatible|risk[- ]free|good (?:choice|option|idea|combination|mix|"
    r"pair)|(?:the )?best (?:choice|option)|reasonable|acceptable|no (?:problem|issue|big deal)|not (?:a problem|an issue|"
    r"harmful|dangerous))"
)
SOMEONE: Final = r"(?:you|he|she|they|we|people|patients|women|adults|children|kids|your (?:\w+ )?\w+)"
HAVE: Final = (
    r"(?:take|use|have|get|keep|continue|start|add|mix|combine|go back|give|drink|eat|stay|finish|wear|go ahead|carry on)"
)
PERMITS: Final = Scan(
    rf"\b(?:(?:it|that|this|they|which|these|those|both|either|combination|mix|one|\w+)(?:'s|'re| is| are| would be|"
    rf" should be|'ll be| will be) (?:an? )?{ADVERBS}(?:an? )?{FINE}\b"
    rf"|{SOMEONE} (?:can|could|may|should) {ADVERBS}{HAVE}\b"
    rf"|(?:can|may|could) {ADVERBS}be {ADVERBS}(?:taken|used|combined|mixed|given|continued|started)\b"
    r"|go ahead|feel free|no (?:known |real |significant |major )?(?:problems?|issues?|interactions?|risks?|danger|harm|"
    r"concerns?|conflict|clash|worries|need to (?:worry|stop|avoid|wait|switch|separate|adjust|change|space))\b"
    r"|nothing (?:to worry|special|wrong)|works? (?:well|great|better|fine|nicely)|goe?s? (?:well|fine)|has no (?:effect|"
    r"influence)|(?:do not|don't|"
    r"doesn't|does not) (?:interact|clash|affect|matter|interfere)"
    r"|(?:won't|will not|wouldn't|shouldn't) (?:hurt|harm|cause|affect|be (?:a |an )?(?:problem|issue)|raise|matter|interact|"
    r"interfere)"
    r"|(?:keep|continue) (?:taking|using|on with|with|your|the|both|giving)|carry on|complement each other|commonly (?:taken|"
    r"used) together|often (?:taken|used) together|safely)"
)
_TELLS: Final = (
    r"(?:(?:yes|yeah|sure|ok|okay|absolutely|of course|no problem|then|just|simply|please|so|and|"
    r"good news)\W+){0,3}(?:take|give|use|start|add|continue|try|have|mix|combine|restart|pick|choose|finish|drink)\b"
)
TELLS: Final = Scan(rf"^\W*{_TELLS}")
# Where any sentence of a text may begin.
TELLS_ANYWHERE: Final = Scan(rf"(?:^|[.!?\n\"')\]*_])\W*{_TELLS}")
AFFIRMS: Final = Scan(
    r"^\W*(?:yes|yeah|yep|yup|ya|sure|absolutely|definitely|of course|certainly|totally|go ahead|no problem|no worries|"
    r"ok(?:ay)?|fine|go for it|please do|enjoy|both (?:are )?(?:fine|ok|okay|safe)|all (?:three |of them )?(?:are )?(?:fine|"
    r"ok|okay|safe)|perfectly (?:fine|safe)|that's (?:fine|ok|okay|alright|safe)|(?:it|this|that) is (?:fine|ok|okay|safe)|"
    r"it's (?:fine|ok|okay|safe))\b"
)
DENIES: Final = Scan(
    r"^\W*(?:no|nope|nah|not (?:at all|really|that|this|with|for|while|if|yet|both|together|safe\w*|a good|quite|unless|"
    r"without|harmful|dangerous)|none|nothing|never|neither|don't|do not|please (?:don't|do not)|leave|skip|avoid)\b"
)
NO_OBSTACLE: Final = Scan(
    r"^\W*(?:no|not|nothing|none|don't|do not)(?:'t)? (?:(?:known|real|significant|special|major|big|"
    r"extra) )?(?:a )?(?:problems?|issues?|worr(?:y|ies)|need|interactions?|risks?|danger\w*|harm\w*|concerns?|big deal|"
    r"wean\w*|taper\w*|reason|to worry|special|at all|clash|conflict|doubt)\b"
)
NEGATED_HARM: Final = Scan(
    r"\b(?:not|no|never|without|won't|don't|doesn't|isn't|aren't|didn't|can't|wouldn't|shouldn't|hardly|barely|needn't|"
    r"nor)(?: \w+){0,4} (?:risks?|harm\w*|bleed\w*|withdrawal|interact\w*|danger\w*|damage\w*|seizures?|taper\w*|wean\w*|"
    r"rebound|trigger\w*|serotonin syndrome|overdos\w*|monitor\w*|gap|separate\w*|apart|wait|reduc\w*|slowly|gradual\w*|"
    r"toxic\w*|careful\w*|raises?|increases?|exceed\w*|emergency|hospital)\b"
)
NO_MENTION: Final = Scan(
    r"(?:\b(?:no|not|never|without|w/o|nor|isn't|aren't|don't|doesn't|didn't|haven't|hasn't|neither|deny|denies|zero|stopped|"
    r"quit|than|unlike|used to|negative|avoid\w*|isnt|dont|havent)\b(?: (?:on|in|a|an|any|to|with|have|has|had|take|taking|"
    r"use|using|drink|drinking|history|known|of|the|for|my|serious|heart|liver|kidney|stomach|been|or|longer|currently|am|is|"
    r"other|and|like|both|trying|thyroid|eye|drug|lung)|,)*[ ,]*|\bnon[- ]?alcoholic |[a-z](?:-| )free )$"
)
RULED_OUT: Final = Scan(
    r"^(?:[- ]free\b| (?:is |was |test |tests |has been )?(?:negative|ruled out|excluded)|[^.!?]{0,20} (?:no|none|never)\W*$)"
)
# Asked so that "yes" permits; and so that "no" does.
ASKS_LEAVE: Final = Scan(
    r"\b(?:can (?:i|we|he|she|they|you|my|the|a|it|someone)|could (?:i|we|he|she)|may i|is (?:it|this|that|"
    r"\w+(?: \w+)?) (?:still )?(?:ok|okay|safe|fine|alright|all right|good|allowed|possible)|ok(?:ay)? (?:to|if|with|"
    r"together|for)|safe (?:to|with|for|together|in|while)|fine (?:to|if|with)|good idea|allowed|shall i|should i (?:take|"
    r"give|use|start|try|keep|continue)|(?:ok|okay|safe|fine|alright)\W*$)"
)
ASKS_WHAT: Final = Scan(r"\b(?:what|how|when|why|which|who|whose|where|tell me|explain)\b")
ASKS_DANGER: Final = Scan(
    r"\b(?:dangerous|danger|any (?:catch|need|reason)|what's the catch|is (?:it|this|that) (?:\w+ )?bad|bad (?:to|for|idea)|"
    r"harm\w*|hurt|risks?|risky|problems?|issues?|"
    r"interact\w*|unsafe|worry|worried|concern\w*|should i (?:stop|avoid|skip|be|call|go|see|ring)|(?:do|does|should|must|"
    r"would) (?:i|he|she|we|they) (?:\w+ )?(?:need|have|taper|wean|stop|avoid)|need to|have to|taper\w*|wean\w*|too much|"
    r"overdose|avoid|anything (?:wrong|to worry))\b"
)
WARNS: Final = Scan(
    r"\b(?:harms?|destroys?|breaks? down|los(?:e|es|ing) (?:some|its|the|their|protection)|weakens?|bleed badly|blocks?|"
    r"shoots? up|(?:to|into|causes?|caused|causing|acute) (?:\w+ ){0,2}failure|"
    r"collapse|restart|less effective|stops? working|avoid\w*|never|unsafe|dangerous\w*|danger|harmful|risky|contraindicated|"
    r"instead|rather than|fatal|deadly|lethal|"
    r"life-threatening|toxic\w*|poison\w*|overdos\w*|"
    r"(?:do|does|did|should|must|can|could|would|is|are|was|were|need|may|might|ought)(?: not|n't|not)\b|cannot|not (?:be |"
    r"a |an |the |to |usually |generally |normally )?(?:take|taken|use|used|safe|recommended|advised|advisable|ok|okay|fine|"
    r"good|together|combine\w*|mix\w*|start\w*|stop\w*|suitable|right|without|suddenly|on your own|until|daily|allowed|"
    r"enough|compatible)|"
    r"stay away|steer clear|skip|hold off|hold (?:the|your|it)|better not|best not|just not|leave (?:it|that|the|out)|"
    r"off[- ]limits|forbidden|prohibited|not\W*$|except|"
    r"(?:serious|severe|major|real|high|higher|bigger|big|raises?|raise the|increases?|increased?) (?:\w+ ){0,3}(?:risk|"
    r"bleed\w*|level\w*|interaction|harm|problem)|risk of|at risk|the risk|"
    r"interacts?|clash\w*|serotonin syndrome|bleed(?:ing)? (?:more|risk)|damage\w*|trigger\w*|can cause|could cause|"
    r"may cause|can lead|cause(?:s|d)? (?:serious|severe|dangerous)|shut down|stop your|ruled out|kills?|killed|"
    r"slows? (?:or stops? )?(?:your )?breathing|"
    r"(?:before|unless|until|only if|only when|without) (?:\w+ ){0,4}(?:doctor|prescriber|pharmacist|gp|cardiologist|"
    r"neurologist|psychiatrist|clinic|team|midwife|ob|surgeon|specialist|dentist|provider)\b|"
    r"(?:check with|ask|talk to|speak (?:to|with)|call|ring|contact|tell) (?:\w+ ){0,3}(?:doctor|prescriber|pharmacist|gp|"
    r"cardiologist|neurologist|psychiatrist|clinic|team|midwife|ob|surgeon|specialist|dentist|"
    r"provider)(?: \w+){0,3} (?:first|before|whether|about|today|now|for an? (?:different|other|alternative))\b|"
    r"^\W*(?:check with|ask|talk to|speak (?:to|with)|call|ring|contact|tell) (?:\w+ ){0,3}(?:doctor|prescriber|pharmacist|"
    r"gp|clinic|team|midwife|specialist)\W*$|"
    r"(?:hours|days|weeks) (?:apart|must pass|between|after|before)|apart|separate\w*|must pass|wait (?:at least|until)|"
    r"taper\w*|gradual\w*|step by step|slowly|withdrawal|rebound|seizures?|"
    r"wrong|myth|misconception|mistake|untrue|false|incorrect|not true|too (?:much|many|high|often)|(?:more|higher|far|"
    r"well) (?:than|over|above)|exceed\w*|over the limit|twice the|double the (?:max|limit|safe)|"
    r"911|999|112|emergency|poison (?:control|center|centre)|urgent\w*|(?:the|to) er\b|a&e|hospital|paused?|reduced?|"
    r"monitor\w*|careful\w*|caution|swallow(?:ed)? (?:them |it |the \w+ )?whole|whole)\b"
)
URGENT: Final = Scan(
    r"\b(?:911|999|112|000|988|111|emergency|er\b|e\.r|a&e|a and e|hospital|ambulance|urgent\w*|paramedics?|"
    r"poison (?:control|center|centre)|right away|immediately|straight ?away|same[- ]day|as soon as|"
    r"(?:call|see|ring|phone|contact|seek|tell|visit|speak to|talk to|get|go to) (?:\w+ ){0,4}(?:doctor|gp|help|clinic|nurse|"
    r"midwife|pharmacist|care|checked|seen|attention|team|prescriber|provider|hotline|helpline|physician|vet|dentist|"
    r"optician)|(?:get|be) (?:it |him |her |them |that )?(?:checked|seen|examined|looked at)|today|tonight|now)\b"
)
SENDS: Final = Scan(
    r"\b(?:911|999|112|000|988)\b|\b(?:call|ring|phone|dial|get|go (?:straight )?to|take (?:him|her|them) to) (?:\w+ ){0,3}"
    r"(?:ambulance|emergency|er|a&e|hospital|poison)\b"
)
"""To an emergency service."""
REASSURES: Final = Scan(
    r"\b(?:normal|nothing (?:to worry|serious|dangerous)|no need|don't (?:need|have) to|do not (?:need|have) to|not (?:need|"
    r"have) to|don't worry|do not worry|no (?:cause|reason) (?:for|to)|rest|wait(?: it out)?|see how|sleep (?:it|on)|just "
    r"sleep|"
    r"lie down|harmless|"
    r"(?:just|probably|likely|usually|often|only) (?:just |a |an |due to |from )*(?:stress|anxiety|heartburn|indigestion|"
    r"reflux|gas|tired\w*|a virus|viral|muscle|nerves|panic|tension|dehydrat\w*|nothing|the heat|migraine|side effect)|"
    r"(?:will|should|'ll|usually|often|generally) (?:pass|settle|go away|resolve|fade|clear|improve|ease|subside|calm down|"
    r"get better)|on its own|by itself|in a (?:few|couple)|(?:common|expected|mild) (?:side effect|reaction|and)|"
    r"sounds like (?:a |an )?(?:\w+ )?(?:virus|heartburn|indigestion|reflux|cold|flu|anxiety|panic|migraine|tension|stress|"
    r"muscle|bug)|keep an eye|monitor|give it (?:a|an|some|another|until)|very common|no(?:thing)? urgent|not (?:serious|"
    r"urgent|an emergency|dangerous|a concern))\b"
)
STOPS: Final = Scan(
    rf"\b(?:{SOMEONE} (?:can|could|may) {ADVERBS}(?:now )?(?:stop|quit|skip|discontinue|drop|come off|go off|go without|"
    rf"give up|ditch|pause)"
    r"|(?:just|simply|then|safely|and) (?:stop|quit|drop|skip|come off|discontinue)|(?:^|[.!?:;,]\W*)(?:skip|"
    r"stop) (?:taking )?(?:your|the|his|her)"
    r"|(?:stop|quit|discontinue) (?:taking )?(?:\w+ ){0,3}(?:today|tonight|tomorrow|right away|immediately|at once|"
    r"straight ?away|cold turkey|any ?time|whenever|overnight|suddenly|in one go|all at once)"
    r"|no (?:need|reason) (?:to|for) (?:\w+ )?(?:taper\w*|wean\w*|come off|step|reduc\w*)|(?:don't|do not|doesn't|does not|"
    r"needn't|no longer) (?:need|have|require)? ?(?:to )?(?:be )?(?:a )?(?:taper\w*|wean\w*)|no (?:taper\w*|wean\w*|"
    r"withdrawal)\b|without (?:any )?(?:taper\w*|weaning|problems?|trouble)"
    r"|(?:stopping|quitting|skipping|going without|coming off) (?:\w+ ){0,4}(?:is|are|should be|won't be|"
    r"isn't) (?:\w+ )?(?:fine|safe|ok|okay|harmless|no problem|a problem|dangerous|not dangerous)|"
    r"cold turkey is (?:\w+ )?(?:fine|safe|ok|okay)|(?:don't|do not|no longer) need (?:it|them|\w+)(?: any ?more)?)\b"
)
STOP_ASKED: Final = Scan(
    r"\b(?:stop\w*|quit\w*|cold turkey|come off|coming off|get off|go off|going off|off|without|skip\w*|discontinu\w*|drop|"
    r"taper\w*|wean\w*|run out|running out|pause|flush|ditch|throw)\b"
)
KEEP_ASKED: Final = Scan(
    r"\b(?:taper\w*|wean\w*|still need|need to (?:keep|continue|take)|have to (?:keep|continue|take)|dangerous|bad|harm\w*|"
    r"risky?|problem|withdrawal)\b"
)
ILL: Final = Scan(
    r"\b(?:rash|allerg\w*|reaction|surgery|operation|procedure|pregnan\w*|vomit\w*|call|911|999|er|bleed\w*|swelling|"
    r"today and|overdose|jaundice|yellow)\b"
)
WEEKLY: Final = Scan(
    r"\b(?:weekly|once a week|a week|per week|each week|every week|monthly|once a month|every 7 days|not (?:daily|"
    r"every day)|every (?:72 hours|(?:3|three) days))\b"
)
DAILY: Final = Scan(
    r"\b(?:daily|(?:once|twice|\w+ times) (?:a|per|each) day|(?:every|each) (?:single )?(?:day|morning|night|evening)|a day|"
    r"per day|(?:seven|7) days a week|nightly|(?:per|a) night|bid|tid|at the same time (?:every|each) day)\b"
)
DEICTIC: Final = Scan(
    r"\b(?:both|together|combination|combined|mix\w*|them|they|these|those|it|that|this|the two|all (?:three|of)|either|"
    r"interact\w*|interaction)\b"
)
FINISHED: Final = Scan(
    r"\b(?:(?:after|since|once|when|now)\b[^.!?]{0,24}\b(?:finish|complet|stopp|com(?:e|ing) off|end)\w*|finished|stopped|"
    r"came off|no longer|last (?:tablet|dose|pill|week|month|year|night)|yesterday|24 ?(?:h|hours) later|gave birth|miscarriage|"
    r"negative|is over|removed|(?:\d+|one|two|three|four|six|a few|several) (?:days?|weeks?|months?|years?) (?:ago|later))\b"
)
"""A drug is taken, or a condition is there, no longer; how long ago is enough differs."""
TOPICAL: Final = Scan(
    r"\b(?:gel|creams?|ointment|lotion|topical\w*|hand (?:gel|rub|saniti\w+)|eye ?drops?|mouthwash|shampoo|nasal spray)\b"
)
"""What of it goes into the blood depends on how much is used where."""
RELATIVE: Final = Scan(
    r"\b(?:my|our) (?:\w+ )?(?:mother|mum|mom|father|dad|wife|husband|partner|boyfriend|girlfriend|son|daughter|brother|sister|"
    r"friend|gran\w*|aunt|uncle|roommate|flatmate|colleague)\b"
)
MYSELF: Final = Scan(r"\b(?:can|may|should|could|am|do) i\b|\bfor me\b|\bi(?:'m| am| take| have| use|'ve| was| had)\b")
"""With `RELATIVE`: the condition may be theirs, and the drug the asker's."""
MILD: Final = Scan(
    r"\b(?:mild|mildly|slight(?:ly)?|early|borderline|stage (?:1|2|3a?)|ckd ?(?:1|2|3a?)|e?gfr (?:is |of |was |above |"
    r"over )?(?:4[5-9]|"
    r"[5-9]\d|"
    r"1\d\d)|(?:well[- ])?controlled|stable)\b"
)
"""Of a condition: a row on the grave form may not be meant."""
TAKES: Final = Scan(r"\b(?:tak(?:e|es|ing)|use|using|swallow\w*|dose|tablets?|pills?)\b")
ONLY_TIMES: Final = Scan(
    r"^(?:\W|yes|sure|no|every|each|one|two|once|twice|a|the|take|tablets?|pills?|in|at|day|daily|per|morning|evening|night|"
    r"bedtime|"
    r"with|food|dinner|breakfast|it|that's|right|and|same|time|\d+)*$"
)
"""A sentence that says how often and nothing else."""
SUPERVISED: Final = Scan(
    r"\b(?:(?:my|your|his|her|the|our) (?:\w+ )?(?:doctor|cardiologist|prescriber|gp|neurologist|psychiatrist|oncologist|"
    r"h(?:a)?ematologist|obstetrician|ob|midwife|allergist|rheumatologist|specialist|surgeon|hospital|team|clinic|"
    r"consultant|nurse)|(?:\w+ologist|doctor|gp) (?:says|said|stopped|ended)|"
    r"prescribed|stent|doctors|on purpose)\b"
)
CAPS: Final = Scan(
    r"(?:(?:no|not|never|don't|do not|cannot|can't|without) (?:\w+ ){0,2}(?:more than|over|above|exceed(?:ing)?|past|beyond|"
    r"pass(?:ing)?)|up to|under|below|within|at most|max(?:imum)?(?: of)?|limit(?: of| is)?|keep to|room for|total(?: of)?|"
    r"sin pasar de|(?:no|not) (?:over|above)|less than|stay(?:ing)? (?:under|below)|and) (?:an? |the )?(?:maximum |total |"
    r"limit )?(?:of )?\W*$"
)
OVER: Final = Scan(r"(?:more than|over|above|exceed\w*|beyond|past|took|taken|swallowed|had|of|any|as much as|even)\W*$")
LONG_USE: Final = Scan(
    r"\b(?:months|years|(?:an?|one|per|each|every|\d+|-) ?(?:month|year)|long[- ]term|"
    r"for ages|daily|every (?:day|night)|each (?:day|night)|since|nightly|a day|\d+ weeks)\b"
)
SUDDEN: Final = Scan(
    r"\b(?:cold turkey|suddenly|abruptly|all at once|at once|overnight|straight ?away|right away|immediately|in one go|"
    r"no (?:need to )?(?:taper|wean)\w*|without (?:taper|wean)\w*)\b"
)
MILD_USE: Final = Scan(
    r"\b(?:creams?|ointment|skin|thin layer|eczema|nasal|nose|sprays?|eye drops?|gel|lotion|lozenges?|(?:two|three|four|five|"
    r"six|seven|few|couple of|\d|10)[- ](?:days?|doses?|tablets?|pills?|nights?)\b(?: course)?|short[- ]term|one[- ]off|"
    r"once in a while|occasional\w*|as needed|stop (?:breathing|bleeding|smoking|drinking))\b"
)
PLAINLY: Final = Scan(r"^\W*(?:\w+ (?:can|could|may)|no (?:need|reason)|(?:stopping|quitting))\b")
PLAIN_FORM: Final = Scan(
    r"\b(?:plain|regular|immediate|immediate[- ]release|ir|uncoated|not (?:the )?(?:er|xr|sr|xl|extended\w*|enteric\w*)|"
    r"unlike|only the|standard|liquid)\b"
)
WORD: Final = Scan(r"\w")
BOTH: Final = Scan(r"\b(?:both|together|the two|all (?:three|of)|them|same time)\b")
VERBS: Final = {
    "crush": r"crush\w*|grind\w*|ground up|pulveri[sz]\w*|powder\w*|mash\w*",
    "chew": r"chew\w*|bite|bitten",
    "split": r"split\w*|hal(?:f|ve\w*|ving)|break\w*|broken|snap\w*",
    "cut": r"cut(?:ting|s)?|snip\w*|trim(?:s|med|ming)?",
    "open": r"open\w*|sprinkl\w*|empt(?:y|ied|ying)",
    "dissolve": r"dissolv\w*|tube",
    "heat": r"heat\w*|hot|sauna|electric blanket|warm\w*|microwav\w*",
    "inject": r"inject\w*|shoot\w*|syringe",
    "swallow": r"swallow\w*",
    "two_at_once": r"two|both|second|another|extra|2",
    "eye": r"eyes?",
    "freeze": r"fr[eo]ez\w*|frozen",
}
"""What may be done to a form, by the names that the tables give it."""
MISUSES: Final = {
    verb: Scan(
        rf"\b(?:{SOMEONE} (?:can|could|may) (?:\w+ ){{0,3}}(?:{words})|(?:^|[.!?,:;]\W*|yes\W+|sure\W+|just |simply |and |"
        rf"then |feel free to |go ahead and |fine to |safe to |ok to |okay to |works? (?:if|when) you )(?:{words})|"
        rf"(?:can|may|could) be (?:{words})|(?:{words})\W+(?:\w+ ){{0,6}}(?:is|are|should be) (?:\w+ )?(?:fine|safe|ok|okay|"
        rf"no problem|alright))\b"
    )
    for verb, words in VERBS.items()
}
VERB_ASKED: Final = {verb: Scan(rf"\b(?:{words})\b") for verb, words in VERBS.items()}

# Spanish, French and German: enough for a "yes, together" to be noticed; whatever could be a denial counts as a warning.
FOREIGN: Final = Scan(
    r"(?:^|[^\pL])(?:el|los|las|una|que|puede|puedes|tome|para|con|s[ií]|est[aá]|sin|por|es|y|del|le|les|une|vous|est|avec|"
    r"pas|et|pour|prendre|oui|tu|des|der|die|das|und|nicht|sie|ist|mit|ja|kein|ein|eine|k[oö]nnen|du|zu)(?:[^\pL]|$)"
)
ENGLISH: Final = Scan(r"\b(?:the|you|your|is|it|and|to|of|with|for|that|this|can|are|have|take|yes|no|or|if|a)\b")
FOREIGN_AFFIRMS: Final = Scan(
    r"^\W*(?:s[ií]|claro|por supuesto|sin problemas?|no hay problema|adelante|oui|bien s[uû]r|pas de probl[eè]me|"
    r"aucun probl[eè]me|sans probl[eè]me|ja|klar|nat[uü]rlich|kein problem|gerne)(?:[^\pL]|$)"
)
FOREIGN_ASKS: Final = Scan(
    r"(?:^|[^\pL])(?:puedo|puede|podemos|se puede|es seguro|pasa algo si|va bien|puis-je|je peux|peut-on|on peut|peut-il|"
    r"est-ce que|kann ich|darf ich|kann man|darf man|kann sie|kann er|geht|ok)(?:[^\pL]|$)"
)
FOREIGN_PERMITS: Final = Scan(
    r"(?:^|[^\pL])((?:puede[sn]?|podr[ií]a[sn]?|pod[eé]is) (?:\S+ )?(?:tomar\S*|usar\S*|seguir|combinar\S*|mezclar\S*|"
    r"beber\S*)|es seguro|son seguros|sin problemas?|son compatibles|no interact[uú]an|tome|tomar los dos|"
    r"(?:pouvez|peux|peut) (?:\S+ )?(?:prendre|utiliser|continuer|boire|associer|combiner)|sans (?:probl[eè]me|risque|"
    r"danger)|prenez|prends|continuez|"
    r"k[oö]nnen sie|sie k[oö]nnen|du kannst|kannst du|man kann|sie d[uü]rfen|du darfst|problemlos|unbedenklich|"
    r"vertr[aä]glich|nehmen sie|nimm)(?:[^\pL]|$)"
)
FOREIGN_EASES: Final = Scan(
    r"(?:no hay (?:ning[uú]n )?(?:problema|riesgo|peligro|interacci[oó]n)|sin (?:ning[uú]n )?(?:problemas?|riesgos?|peligro)|"
    r"no interact[uú]an|(?:pas de|aucun|sans) (?:probl[eè]me|risque|danger|interaction|souci)s?|kein(?:e|en)? (?:problem|"
    r"risiko|gefahr|wechselwirkung\w*|sorge)|ohne (?:problem|risiko|bedenken)\w*)"
)
FOREIGN_WARNS: Final = Scan(
    r"(?:^|[^\pL])(?:no|nunca|jam[aá]s|evit\S+|sin|peligr\S+|riesgo|mejor|en vez|en lugar|consult\S+|pregunt\S+|hable|"
    r"llam\S+|separ\S+|sangrad\S+|grave\S*|m[eé]dico|urgencias|ne|n'\S+|pas|jamais|[eé]vit\S+|dangereu\S+|risque\S*|"
    r"plut[oô]t|au lieu|demand\S+|appel\S+|attention|h[eé]morrag\S+|m[eé]decin|nicht|nie|niemals|kein\S*|vermeid\S+|"
    r"gef[aä]hr\S+|risiko|besser|statt|frag\S+|blutung\S*|arzt|apothe\S+|vorsicht|lieber|abstand)(?:[^\pL]|$)"
)
