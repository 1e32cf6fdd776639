"""Pieces that fill the slots of the message templates, written by hand for this task.

Square brackets hold alternatives (`[a|b]`), of which the generator draws one; curly braces are slots.
`python -m examples.triage.make --count` prints how many pieces there are.
"""

from __future__ import annotations

PRODUCTS = (
    "desk lamp", "office chair", "standing desk", "coffee maker", "electric kettle", "toaster", "blender", "air fryer",
    "vacuum cleaner", "robot mop", "wireless headphones", "bluetooth speaker", "phone case", "laptop stand",
    "mechanical keyboard", "gaming mouse", "monitor arm", "webcam", "power bank", "usb hub", "running shoes",
    "rain jacket", "hiking backpack", "yoga mat", "water bottle", "bike helmet", "camping tent", "sleeping bag",
    "wall clock", "garden hose",
)  # fmt: skip

RARE_INTENTS = ("privacy", "safety")

# For each intent: the clause as the customer writes it, and the words that stand for it in the summary.
DETAILS: dict[str, tuple[tuple[str, str], ...]] = {
    "refund": (
        ("I [simply |just |]changed my mind", "changed mind"),
        ("I found it cheaper [elsewhere|somewhere else]", "found cheaper"),
        ("it is not [at all |really |]what I expected", "not as expected"),
        ("it is [far |much |]too loud for [our|my] flat", "too loud"),
        ("I never [even |]opened the box", "never opened"),
        ("it does not match the [photos|pictures]", "does not match photos"),
        ("my [husband|wife|sister|brother] already had one", "already had one"),
        ("I [already |]sent it back {time}", "sent back"),
        ("the quality is [really |just |]poor", "poor quality"),
        ("it was a gift nobody [wanted|liked]", "unwanted gift"),
        ("it came [far |much |]too late", "came too late"),
        ("I [simply |just |]do not need it", "not needed"),
    ),
    "exchange": (
        ("the size is [far |much |a bit |]too small", "too small"),
        ("the size is [far |much |a bit |]too big", "too big"),
        ("I need it in black", "wants black"),
        ("I need it in blue", "wants blue"),
        ("I [would|'d] rather have it in green", "wants green"),
        ("I would [prefer|like] the larger model", "wants larger model"),
        ("I would [prefer|like] the smaller model", "wants smaller model"),
        ("I would [prefer|like] the newer version", "wants newer version"),
        ("the plug does not fit [here|our sockets]", "plug does not fit"),
        ("I picked the wrong model [by mistake|myself|]", "picked wrong model"),
        ("it is [far |a bit |]too heavy for [me|my mother|her]", "too heavy"),
        ("the shape is [not right|too wide] for [our|my] room", "shape not right"),
    ),
    "delivery": (
        ("the tracking has not moved [for days|since {day}]", "tracking not moving"),
        ("the courier never [showed up|came]", "courier never came"),
        ("it says delivered but nothing is [here|at the door]", "says delivered, nothing here"),
        ("the delivery date keeps changing", "date keeps changing"),
        ("it is [still |]stuck at the depot", "stuck at depot"),
        ("it is [still |]stuck in customs", "stuck in customs"),
        ("nothing has arrived [yet|so far]", "nothing arrived"),
        ("the tracking link is [dead|empty]", "tracking link dead"),
        ("no dispatch email [ever |]came", "no dispatch email"),
        ("it should have been here {time}", "already overdue"),
        ("the neighbours have not seen it [either|]", "neighbours have not seen"),
        ("the driver left no card", "driver left no card"),
    ),
    "cancel": (
        ("I ordered it twice [by accident|by mistake]", "ordered twice"),
        ("I pressed the button too [early|soon]", "pressed too early"),
        ("shipping [just |simply |]takes too long", "takes too long"),
        ("I bought it in a shop instead", "bought in shop"),
        ("my plans have changed", "plans changed"),
        ("my [son|daughter|nephew] ordered it without asking", "ordered without asking"),
        ("it has not shipped yet [anyway|]", "not shipped yet"),
        ("I cannot afford it [right now|at the moment|any more]", "cannot afford"),
        ("we are moving abroad", "moving abroad"),
        ("the project was called off", "project called off"),
        ("[somebody|someone] bought me one already", "has one already"),
        ("the price dropped [the day after|since then|]", "price dropped"),
    ),
    "address": (
        ("we are moving house {time}", "moving house"),
        ("I typed the wrong street", "wrong street"),
        ("the house number is missing", "house number missing"),
        ("the postcode is [wrong|not right]", "wrong postcode"),
        ("it should go to my office", "send to office"),
        ("it should go to my parents", "send to parents"),
        ("it [must|has to] go to a pickup point", "send to pickup point"),
        ("I am [staying |]at a hotel [that|this|all] week", "staying at hotel"),
        ("the flat number was [left out|forgotten]", "flat number missing"),
        ("the old address is still saved", "old address saved"),
        ("the city is spelled wrong", "city spelled wrong"),
        ("it should go to the neighbour", "send to neighbour"),
    ),
    "damaged": (
        ("the box was [completely |]crushed", "box crushed"),
        ("one corner is [badly |]dented", "corner dented"),
        ("there is a [long|deep] scratch on the front", "scratch on front"),
        ("the casing is cracked", "casing cracked"),
        ("it came in pieces", "came in pieces"),
        ("the lid is broken", "lid broken"),
        ("the fabric is torn", "fabric torn"),
        ("it was soaking wet", "soaking wet"),
        ("the handle [has |]snapped off", "handle snapped off"),
        ("the cable was cut", "cable cut"),
        ("one leg is bent", "leg bent"),
        ("the surface is [all |badly |]chipped", "surface chipped"),
    ),
    "missing_part": (
        ("the screws are missing", "screws missing"),
        ("the charger was not in the box", "charger missing"),
        ("there is no manual [at all|inside|]", "no manual"),
        ("the strap is missing", "strap missing"),
        ("one bolt is missing", "bolt missing"),
        ("only half of the set was there", "half set missing"),
        ("the remote was left out", "remote missing"),
        ("the power cable is not there", "power cable missing"),
        ("the adapter is missing", "adapter missing"),
        ("the bag [of|for] fittings is empty", "fittings missing"),
        ("there is no spare filter", "no spare filter"),
        ("the cover was not included", "cover missing"),
    ),
    "wrong_item": (
        ("I got a different model", "got different model"),
        ("I [got|received] a pair of socks", "got socks"),
        ("there was a book in the box", "got book"),
        ("[somebody|someone] else's parcel came", "got other parcel"),
        ("the label is right but the content is not", "label right, content wrong"),
        ("I [got|received] a child's toy", "got toy"),
        ("you packed an older version", "got older version"),
        ("a red one came instead of [a|the] black one", "got red one"),
        ("you packed a kitchen scale", "got kitchen scale"),
        ("I [got|received] a bag of dog food", "got dog food"),
        ("I [got|received] a set of plates", "got plates"),
        ("there was a curtain rod inside", "got curtain rod"),
    ),
    "payment": (
        ("my card was charged twice", "charged twice"),
        ("the payment keeps failing", "payment keeps failing"),
        ("my card is [always |]declined", "card declined"),
        ("the bank transfer is not showing", "transfer not showing"),
        ("the page freezes at checkout", "checkout freezes"),
        ("I was charged too much", "charged too much"),
        ("the wallet payment times out", "wallet times out"),
        ("the instalment plan is wrong", "instalment plan wrong"),
        ("the gift card balance is gone", "gift card balance gone"),
        ("the money was taken [but|and] nothing was confirmed", "paid, not confirmed"),
        ("the bank code never comes", "no bank code"),
        ("my bank flagged the payment", "bank flagged payment"),
    ),
    "invoice": (
        ("my accountant [needs it|is asking]", "for accountant"),
        ("I need it for my tax return", "for tax return"),
        ("the company name is missing on it", "company name missing"),
        ("the vat number has to be on it", "needs vat number"),
        ("the email only had a receipt", "only got receipt"),
        ("my employer [pays it back|wants it]", "for employer"),
        ("the download [link |]is broken", "download broken"),
        ("the attachment was empty", "attachment empty"),
        ("I deleted the email", "email deleted"),
        ("I need it as a pdf", "needs pdf"),
        ("the billing name is wrong", "billing name wrong"),
        ("I need it for the insurance", "for insurance"),
    ),
    "warranty": (
        ("it [suddenly |]stopped charging", "stopped charging"),
        ("it no longer turns on", "no longer turns on"),
        ("the motor makes a grinding noise", "motor grinding"),
        ("the battery drains within [an hour|minutes]", "battery drains"),
        ("the main button got stuck", "button stuck"),
        ("a seam came apart", "seam came apart"),
        ("the display flickers", "display flickers"),
        ("it leaks at the bottom", "leaks at bottom"),
        ("the hinge gave out", "hinge gave out"),
        ("it shuts off after [a minute|two minutes]", "shuts off"),
        ("the spring wore out", "spring wore out"),
        ("the paint is peeling off", "paint peeling off"),
    ),
    "question": (
        ("if it is [really |]waterproof", "is it waterproof"),
        ("how heavy it is", "how heavy"),
        ("if it can be washed", "can be washed"),
        ("how long the battery lasts", "battery life"),
        ("if spare parts are sold", "spare parts"),
        ("what it is made of", "what material"),
        ("how loud it gets", "how loud"),
        ("when it is back in stock", "back in stock"),
        ("which colours [exist|you have]", "which colours"),
        ("if it comes assembled", "comes assembled"),
        ("how wide it is", "how wide"),
        ("if there is a student price", "student price"),
    ),
    "account": (
        ("the reset email never arrives", "no reset email"),
        ("my password is [always |]rejected", "password rejected"),
        ("the account is [suddenly |]locked", "account locked"),
        ("I no longer have that phone", "phone gone"),
        ("the login page just reloads", "login page reloads"),
        ("the login code is always wrong", "login code wrong"),
        ("my email address has changed", "email changed"),
        ("it says the user does not exist", "user does not exist"),
        ("[somebody|someone] else logged in", "stranger logged in"),
        ("the app keeps signing me out", "app signs out"),
        ("I forgot which email I used", "forgot email"),
        ("the two step check fails", "two step check fails"),
    ),
    "voucher": (
        ("it says the code has expired", "code expired"),
        ("it says the code is unknown", "code unknown"),
        ("the discount was not [applied|taken off]", "discount not applied"),
        ("the ten percent never showed up", "ten percent absent"),
        ("the newsletter code fails", "newsletter code fails"),
        ("the birthday coupon is gone", "birthday coupon gone"),
        ("it only works for new customers", "new customers only"),
        ("the field for the code is [missing|gone]", "code field missing"),
        ("the student discount is refused", "student discount refused"),
        ("free shipping did not count", "free shipping not counted"),
        ("my bonus points were not added", "points not added"),
        ("the promo code works only once", "promo works once"),
    ),
    "privacy": (
        ("you keep sending [me |]adverts", "keeps getting adverts"),
        ("I closed the account long ago", "account closed"),
        ("my details were shared [with others|]", "details shared"),
        ("I never gave consent", "no consent given"),
        ("gdpr gives me that right", "gdpr right"),
        ("I no longer shop here", "no longer shops"),
        ("I never signed up [myself|]", "never signed up"),
        ("there was a data leak", "data leak"),
    ),
    "safety": (
        ("smoke came out of it", "smoke came out"),
        ("it gave me an electric shock", "electric shock"),
        ("it [nearly |almost |]caught fire", "caught fire"),
        ("it got burning hot", "burning hot"),
        ("sparks flew from [the plug|it]", "sparks flew"),
        ("my [son|daughter] cut a finger on it", "child cut finger"),
        ("it smelled of burning [plastic|rubber]", "burning smell"),
        ("it [simply |just |]exploded", "it exploded"),
    ),
}

INTENTS = tuple(DETAILS)

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

TIMES = (
    "last week", "yesterday", "two days ago", "this morning", "on {day}", "last {day}", "a week ago", "last month",
    "the other day", "three weeks ago", "earlier today", "over the weekend", "last night", "ten days ago", "in spring",
    "a while ago", "before the holidays", "around noon", "on {day} evening", "on {day} morning", "a few days back",
    "at the end of the month", "before Easter", "in {month}", "early in {month}", "late in {month}",
)  # fmt: skip

MONTHS = ("January", "March", "April", "May", "June", "August", "October", "November")

OPENERS = (
    "Hi,", "Hello,", "Hi there,", "Hey,", "Good morning,", "Good evening,", "Hello team,", "Hi all,", "Hey folks,",
    "Good afternoon,", "Hi support,", "Hello again,", "Hi {name} here.", "Dear shop,", "Greetings,", "Hey there,",
    "Sorry to bother you.", "Quick one:", "{name} here,", "Me again.", "Okay so,", "Excuse me,",
)  # fmt: skip

CLOSERS = (
    "Thanks!", "Thank you.", "Many thanks, {name}", "Kind regards, {name}", "Best, {name}", "Cheers, {name}",
    "Thanks a lot.", "Thanks in advance.", "Regards, {name}", "{name}", "Have a nice day.", "Bye, {name}",
    "I look forward to your reply.", "Greetings, {name}", "Thank you very much.", "Yours, {name}", "Thx",
    "All the best, {name}", "Waiting for your answer.", "Sincerely, {name}",
)  # fmt: skip

NAMES = (
    "Anna", "Ben", "Carla", "David", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Kira", "Leo", "Mara", "Nils",
    "Olga", "Paul", "Rosa", "Sam", "Tara", "Umar", "Vera", "Wim", "Yara", "Zoe",
)  # fmt: skip

URGENT = (
    "This is [really |very |]urgent.", "I need this [sorted|solved] today.", "Please answer as soon as possible.",
    "It cannot wait.", "I need an answer [today|right away].", "Please hurry.", "Asap please.", "Urgent!",
    "It has to happen [today|before tomorrow].", "I am running out of time.", "Please treat this as urgent.",
    "We leave tomorrow so it is pressing.", "I need help immediately.", "Please act [right away|at once].",
    "Every hour counts.", "I cannot wait any longer.", "The deadline is tomorrow.", "Please make this a priority.",
)  # fmt: skip

RELAXED = (
    "No rush.", "There is no hurry.", "Whenever you have a [moment|minute].", "It can wait.", "Take your time.",
    "Next week is fine [too|].", "It is not urgent.", "Not urgent at all.", "No hurry at all.", "No stress.",
    "Answer when you get around to it.", "Any time this month is fine.", "It is nothing pressing.",
    "I am in no hurry.", "Sometime soon is enough.", "No need to hurry.",
)  # fmt: skip

# How a real order number is written, and what stands in its place when the customer gives none.
ORDER_FORMS = (
    "order {number}", "order #{number}", "order no. {number}", "order number {number}", "#{number}", "order {number}",
    "my order {number}", "my order #{number}",
)  # fmt: skip
ORDER_ABSENT = (
    "my order", "my last order", "the order", "my recent order", "our order", "the order from {day}", "my {day} order",
    "the order in your shop", "the order I placed {time}",
)  # fmt: skip

ITEM_ABSENT = ("the item", "my parcel", "this thing", "my purchase", "the product", "the article", "the goods")

# Numbers that are not the order number. {number} looks exactly like one, {phone} and {amount} do not.
DISTRACTORS = (
    "My phone number is {phone}.", "You can [call|reach] me on {phone}.", "The invoice number is {number}.",
    "Invoice {number} says {amount}.", "I was given ticket {number} {time}.", "My ticket was {number}.",
    "Your colleague called it case {number}.", "My customer number is {number}.", "I paid {amount}.",
    "It cost {amount} {time}.", "My postcode is {number}.", "The serial number is {number}.",
    "The tracking code is {number}.", "Case {number} is [still |]open [too|].", "{amount} left my account {time}.",
    "Ring me on {phone} [if needed|any time].", "The article number is {number}.", "Ticket {number} was closed {time}.",
    "The voucher said {number}.", "I was quoted {amount} on the phone.",
)  # fmt: skip

# A second request, put behind the main one. Only the first request counts for the truth.
SECOND_REQUESTS: dict[str, tuple[str, ...]] = {
    "refund": ("[Also|And], I want my money back for {other}.", "Besides that, a refund for {other} is still open."),
    "exchange": ("[Also|And], could I swap {other} for another size?", "And can {other} be exchanged [too|as well]?"),
    "delivery": ("[Also|And] where is {other}?", "One more thing: when will {other} be delivered?"),
    "cancel": ("[Also|And] please cancel {other}.", "By the way, {other} can be cancelled [too|as well]."),
    "address": ("[Also|And] please update my address.", "By the way, my delivery address has changed."),
    "damaged": ("[Also|And] {other} was broken.", "Oh, and {other} arrived damaged [too|as well]."),
    "missing_part": ("[Also|And] a piece of {other} is missing.", "Besides, a part for {other} was not packed."),
    "wrong_item": ("[Also|And] you sent the wrong thing instead of {other}.",),
    "payment": ("[Also|And] why does paying for {other} fail?", "One more thing: my last payment bounced."),
    "invoice": ("[Also|And] send me the invoice for {other}.", "By the way, I still need an invoice."),
    "warranty": ("[Also|And] is {other} still under warranty?", "Also {other} needs a repair [too|as well]."),
    "question": ("[Also|And] do you sell {other} in white?", "By the way, is {other} any good?"),
    "account": ("[Also|And] I cannot log in any more.", "Besides, my password stopped working."),
    "voucher": ("[Also|And] my voucher for {other} did not work.", "One more thing, my coupon failed."),
}
