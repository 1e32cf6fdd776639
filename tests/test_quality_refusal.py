# ruff: noqa: RUF001 - letters of other scripts are what this file is about
"""Models that decline, in fifteen languages, and answers that only sound so."""

import json

import pytest

from synthdistill.quality.refusal import no_refusal, refuses
from synthdistill.quality.refusal_words import REFUSALS
from synthdistill.records import Completion, Prompt, Usage

PROMPT = Prompt("p", ["1"], [], "", "train")

REFUSING = {
    "en": [
        "I'm sorry, but I can't help with that.",
        "I\u2019m sorry, but I can\u2019t assist with that request.",
        "I cannot assist with this.",
        "I am unable to help you with that",
        "Unfortunately, I cannot comply with your request.",
        "Sorry, I can't provide that kind of information.",
        "I apologize, but I cannot generate this content.",
        "As an AI language model, I do not have feelings",
        "I'm just an AI, so I cannot know.",
        "  I can't fulfill that request",
        "I'm afraid I can't help with that.",
        "I won't be able to help with that.",
        "I'm sorry, I can't do that.",
        "I must refuse to answer this question",
        "**I'm sorry**, but I can't help with that.",
        '"I can\'t assist with that."',
        "I must decline this request.",
    ],
    "de": [
        "Es tut mir leid, aber dabei kann ich nicht helfen.",
        "Tut mir leid, ich kann Ihnen bei dieser Anfrage nicht weiterhelfen.",
        "Leider kann ich diese Anfrage nicht beantworten.",
        "Diese Bitte kann ich nicht erfüllen.",
        "Entschuldigung, ich kann keine solchen Inhalte erstellen.",
        "Als KI-Sprachmodell habe ich leider keine eigenen Gefühle.",
        "Ich bin nur ein KI-Modell und kann das nicht wissen.",
    ],
    "fr": [
        "Je suis désolé, mais je ne peux pas vous aider avec cela.",
        "Désolée, je ne peux pas répondre à cette demande.",
        "Malheureusement, je ne suis pas en mesure de fournir ce type de contenu.",
        "Je ne peux pas faire cela.",
        "En tant qu\u2019IA, je n\u2019ai pas d\u2019opinions personnelles.",
        "En tant que modèle de langage, je ne peux pas accéder à Internet.",
    ],
    "es": [
        "Lo siento, pero no puedo ayudarte con eso.",
        "Lamentablemente, no puedo cumplir con esta solicitud.",
        "No puedo proporcionar ese tipo de contenido.",
        "Lo siento, no puedo hacer eso.",
        "Como modelo de lenguaje, no tengo opiniones.",
        "Soy solo una IA y no puedo saberlo.",
    ],
    "it": [
        "Mi dispiace, ma non posso aiutarti con questo.",
        "Purtroppo non posso soddisfare questa richiesta.",
        "Non sono in grado di fornire questo tipo di informazioni.",
        "Mi spiace, non posso farlo.",
        "In quanto modello linguistico, non ho opinioni personali.",
    ],
    "pt": [
        "Desculpe, mas não posso ajudar com isso.",
        "Sinto muito, não posso atender a essa solicitação.",
        "Infelizmente, não posso fornecer esse tipo de conteúdo.",
        "Não consigo fazer isso.",
        "Como um modelo de linguagem, eu não tenho sentimentos.",
    ],
    "nl": [
        "Sorry, maar daar kan ik je niet bij helpen.",
        "Het spijt me, ik kan u niet helpen met dit verzoek.",
        "Helaas kan ik dit verzoek niet uitvoeren.",
        "Ik kan niet voldoen aan dit verzoek.",
        "Als AI-taalmodel heb ik geen eigen mening.",
    ],
    "pl": [
        "Przepraszam, ale nie mogę w tym pomóc.",
        "Niestety nie mogę spełnić tej prośby.",
        "Przykro mi, nie mogę tworzyć takich treści.",
        "Nie mogę tego zrobić.",
        "Jako model językowy nie mam własnych opinii.",
    ],
    "ru": [
        "Извините, но я не могу помочь вам с этим.",
        "К сожалению, я не могу выполнить этот запрос.",
        "Простите, я не могу предоставить такую информацию.",
        "Как языковая модель, я не имею личного мнения.",
        "Я всего лишь ИИ и не могу этого знать.",
    ],
    "zh": [
        "对不起，我无法帮助您。",
        "对不起，我无法帮助你",
        "很抱歉，我不能提供这方面的帮助。",
        "抱歉，我无法提供此类内容。",
        "对不起，我不能回答这个问题。",
        "很抱歉，我无法满足您的请求。",
        "作为一个人工智能语言模型，我没有个人情感。",
        "抱歉，我無法協助這個請求。",
        "我不能帮助你做这件事。",
    ],
    "ja": [
        "申し訳ございませんが、そのご要望にはお応えできません。",
        "申し訳ありませんが、その質問にはお答えできません。",
        "すみません、それはお手伝いできません。",
        "AIとして、個人的な意見は持っていません。",
        "残念ながら、このリクエストには対応できません。",
    ],
    "ko": [
        "죄송합니다. 그 요청은 도와드릴 수 없습니다.",
        "죄송하지만 해당 질문에 답변드릴 수 없습니다.",
        "죄송합니다만, 이러한 내용을 제공할 수 없습니다.",
        "AI 언어 모델로서 저는 개인적인 의견이 없습니다.",
    ],
    "tr": [
        "Üzgünüm, bu konuda yardımcı olamam.",
        "Maalesef bu isteği yerine getiremem.",
        "Özür dilerim, ancak bu tür içerikleri oluşturamam.",
        "Bir yapay zeka dil modeli olarak kişisel görüşüm yok.",
        "İsteğinizi yerine getiremiyorum.",
    ],
    "ar": [
        "عذرًا، لا يمكنني مساعدتك في ذلك.",
        "آسف، لا أستطيع تلبية هذا الطلب.",
        "للأسف، لا يمكنني تقديم مثل هذا المحتوى.",
        "بصفتي نموذجًا لغويًا، لا أملك آراء شخصية.",
    ],
    "hi": [
        "क्षमा करें, मैं इसमें आपकी मदद नहीं कर सकता।",
        "मुझे खेद है, लेकिन मैं इस अनुरोध को पूरा नहीं कर सकता।",
        "माफ़ कीजिए, मैं ऐसा नहीं कर सकती।",
        "एक एआई भाषा मॉडल के रूप में, मेरी कोई व्यक्तिगत राय नहीं है।",
    ],
}

ANSWERING = {
    "en": [
        '{"summary": "customer says: I cannot log in", "note": "I\'m sorry, but I can\'t help with that"}',
        "I'm sorry, but we cannot refund an order after 30 days.",
        "I can't find your order number; could you send it again?",
        "I cannot help but admire the work.",
        "I cannot log in",
        "I'm afraid the parcel is lost; we can't do that again this year.",
        "Sorry to hear that! Your parcel left on Monday.",
        "As an AI course, this one is short.",
        "He said: as an AI language model, I refuse.",
    ],
    "de": [
        "Leider können wir nach 30 Tagen nicht mehr erstatten.",
        "Ich kann Ihre Bestellung nicht finden; senden Sie mir bitte die Nummer.",
        "Es tut mir leid, dass Ihr Paket verspätet ist. Dabei helfe ich gern.",
        "Als KI-Experte habe ich nicht viel daran auszusetzen.",
        "Als KI kann ich Ihnen drei Wege zeigen: Anruf, Brief und Besuch.",
    ],
    "fr": [
        "Nous ne pouvons pas rembourser cette commande.",
        "Je ne peux pas trouver votre commande ; pouvez-vous renvoyer le numéro ?",
        "Désolé pour le retard, votre colis part demain.",
        "En tant qu'expert en IA, je ne recommande pas ce modèle.",
    ],
    "es": [
        "Lo siento, pero no podemos devolver el dinero después de 30 días.",
        "No puedo encontrar su pedido; envíeme el número.",
        "Como modelo de coche, no está mal.",
        "Lamento la demora; su paquete sale mañana.",
    ],
    "it": [
        "Mi dispiace, ma non possiamo rimborsare l'ordine.",
        "Non posso trovare il suo ordine: mi manda il numero?",
        "Come modello di auto, non è male.",
    ],
    "pt": [
        "Desculpe, mas não podemos reembolsar o pedido.",
        "Não posso encontrar o seu pedido; envie o número.",
        "Como modelo de carro, não é ruim.",
    ],
    "nl": [
        "Helaas kunnen we de bestelling niet terugbetalen.",
        "Ik kan uw bestelling niet vinden; stuurt u het nummer?",
        "Sorry voor het ongemak, uw pakket komt morgen.",
        "Als AI-expert heb ik geen bezwaar.",
    ],
    "pl": [
        "Niestety nie możemy zwrócić pieniędzy.",
        "Nie mogę znaleźć zamówienia; proszę podać numer.",
        "Przepraszam za opóźnienie, paczka dotrze jutro.",
    ],
    "ru": [
        "К сожалению, мы не можем вернуть деньги.",
        "Я не могу найти ваш заказ; пришлите номер.",
        "Извините за задержку, посылка придёт завтра.",
        "Как ИИ-эксперт, я не вижу ошибок.",
    ],
    "zh": [
        "很抱歉，我们无法退款。",
        "抱歉，我无法找到您的订单，请提供订单号。",
        "作为人工智能专家，我不能同意这种说法。",
        "对不起，您的包裹丢失了。",
    ],
    "ja": [
        "申し訳ございませんが、ご返金はできません。",
        "ご質問の商品は返品できません。",
        "申し訳ありませんが、ご注文が見つかりません。",
        "すみません、荷物は明日届きます。",
    ],
    "ko": [
        "죄송합니다. 환불해 드릴 수 없습니다.",
        "죄송하지만 주문을 찾을 수 없습니다.",
        "AI 전문가로서 저는 동의하지 않습니다.",
    ],
    "tr": [
        "Maalesef iade yapamıyoruz.",
        "Üzgünüm, siparişinizi bulamıyorum.",
        "Yapay zeka uzmanı olarak buna katılmıyorum.",
    ],
    "ar": [
        "للأسف، لا يمكننا رد المبلغ.",
        "عذرًا، لا يمكنني العثور على طلبك.",
        "أعتذر عن التأخير، ستصل الشحنة غدًا.",
    ],
    "hi": [
        "क्षमा करें, हम पैसे वापस नहीं कर सकते।",
        "मुझे खेद है, मुझे आपका ऑर्डर नहीं मिला।",
        "मैं आपका ऑर्डर नहीं ढूँढ सकता; कृपया नंबर भेजें।",
    ],
}


def measured(text, finish="stop"):
    return no_refusal().measure(Completion("c", "p", [], 0, text, finish, "m", Usage(), 0.0), PROMPT)


@pytest.mark.parametrize("text", [text for texts in REFUSING.values() for text in texts])
def test_a_refusal_is_dropped_and_quoted(text):
    score = measured(text)

    assert not no_refusal().keeps(score)
    assert score.reason.startswith("begins: ")


@pytest.mark.parametrize("text", [text for texts in ANSWERING.values() for text in texts])
def test_an_answer_that_only_sounds_like_a_refusal_is_kept(text):
    assert refuses(text) == ""


@pytest.mark.parametrize("examples", [REFUSING, ANSWERING], ids=["refusing", "answering"])
def test_each_language_of_the_table_has_two_of_a_kind(examples):
    assert {language for language in examples if len(examples[language]) >= 2} == set(REFUSALS)


def test_the_models_own_refusal_mark_counts():
    assert measured("No.", finish="refusal").value == 0.0


def test_letters_in_parts_and_wide_letters_are_the_same_words():
    assert refuses("Je suis de\u0301sole\u0301, mais je ne peux pas vous aider avec cela.")
    assert refuses("\uff33orry, I can't help with that.")


@pytest.mark.parametrize(
    "text", ["sorry, " * 100_000, "ich kann " * 100_000, "\u62b1\u6b49" * 100_000, " " * 1_000_000, "\ud83d" * 9, "\0", ""]
)
def test_no_text_is_too_odd(text):
    assert refuses(text) == ""


def test_human_sentences_are_no_refusals(data):
    """Over 32,000 rows of banking, assistant and maths text written by people: nothing is dropped."""
    texts = []
    for name, key in {"banking77/train": "text", "clinc150/train": "text", "gsm8k/train": "answer", "gsm8k/test": "answer"}.items():
        texts += [json.loads(line)[key] for line in (data / f"{name}.jsonl").open(encoding="utf-8")]

    assert len(texts) > 32_000
    assert [text for text in texts if refuses(text)] == []
